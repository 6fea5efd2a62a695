"""Run backbones over the frames and stacks of one clip, some images at a time: memory does not grow with it.

Each frame and stack is read and seen once, in rising order, however many rows have it; a thread reads ahead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowkit.store.read.clip import Clip
from flowkit.store.read.store import Store
from gating.backbone_features.networks import FeatureNetworks
from gating.backbone_features.rows import ClipRows, Numbers
from gating.config import Modality
from gating.data.augment import Crops, evaluation_crops, flow_codes, flow_image_input, flow_input, rgb_input
from gating.distributed import autocast, precision_of
from gating.models.backbones import InputSpec

IMAGES_AT_ONCE = 16
# Of frames or fields as they are stored: large ones come fewer at once.
_PIXELS_AT_ONCE = 16 * 512 * 512
Features = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipInput:
    """The reader of a clip's images in the form that networks see."""

    clip: Clip
    store: Store
    networks: FeatureNetworks
    device: torch.device

    def rgb(self, frames: Numbers) -> Tensor:
        """Return frames (n,) as float32 (1, n, 3, S, S), normalised."""
        images = torch.from_numpy(self.clip.frames(frames)).to(self.device).permute(0, 3, 1, 2)[None]
        return rgb_input(images, self._crops, self._inputs("rgb"), size=self._size)

    def flow(self, stacks: Numbers) -> Tensor:
        """Return stacks (n, L) as float32 (1, n, C, S, S), normalised."""
        read = list(self.clip.iter_codes(stacks.ravel(), field=self.networks.config.field))
        planes = np.stack([codes for codes, _ in read]).reshape(1, len(stacks), -1, *read[0][0].shape[1:])
        scales = np.repeat(np.array([scale for _, scale in read], np.float32), 2)
        config, options = self.networks.config, self.store.options
        codes = flow_codes(
            torch.from_numpy(planes).to(self.device),
            torch.from_numpy(scales).view(1, len(stacks), -1, 1, 1),
            bound_px=config.augment.bound_px,
            offset_px=options.codec.form_offset_px("codes", bound_px=options.bound_px),
        )
        make = flow_image_input if config.flow_input == "image" else flow_input
        return make(codes, self._crops, self._inputs("flow"), size=self._size)

    @property
    def _size(self) -> int:
        return self.networks.config.augment.size

    @property
    def _crops(self) -> Crops:
        size = (self.clip.height, self.clip.width)
        (crops,) = evaluation_crops(1, size, self.networks.config.augment, 1)
        return crops.to(self.device)

    def _inputs(self, modality: Modality) -> InputSpec:
        return self.networks.streams[modality].backbone.inputs


@torch.inference_mode()
def row_features(
    store: Store, clip: Clip, rows: ClipRows, networks: FeatureNetworks, device: torch.device
) -> dict[Modality, Features]:
    """Return each modality's features of a clip's T rows, float32 (T, D).

    Raises
    ------
    StoreCorruptError
        A frame or a field is damaged.
    """
    source = ClipInput(clip=clip, store=store, networks=networks, device=device)
    size = clip.height * clip.width
    found: dict[Modality, Features] = {}
    for one in networks.streams:
        read, wanted = (source.rgb, rows.frames) if one == "rgb" else (source.flow, rows.stacks)
        pixels = size * math.prod(wanted.shape[2:])
        at_once = max(1, min(IMAGES_AT_ONCE, _PIXELS_AT_ONCE // pixels))
        found[one] = _pooled(read, wanted, networks, one, at_once=at_once)
    return found


def _pooled(
    read: Callable[[Numbers], Tensor],
    wanted: Numbers,
    networks: FeatureNetworks,
    modality: Modality,
    *,
    at_once: int,
) -> Features:
    """Return the mean features of each row, (T, D), of the images `wanted` (T, n) or (T, n, L)."""
    flat = wanted.reshape(wanted.shape[0] * wanted.shape[1], *wanted.shape[2:])
    images, inverse = np.unique(flat, axis=0, return_inverse=True)
    stream = networks.streams[modality]
    device = next(stream.parameters()).device
    precision = precision_of(networks.config.amp, device)
    parts = []
    for batch in _read_ahead(read, np.array_split(images, -(-len(images) // at_once))):
        with autocast(device, precision):
            parts.append(stream.below_head(batch).features[0].float().cpu().numpy())
    features = np.concatenate(parts)[inverse.ravel()]
    made: Features = features.reshape(*wanted.shape[:2], -1).mean(axis=1, dtype=np.float32)
    return made


def _read_ahead(read: Callable[[Numbers], Tensor], batches: list[Numbers]) -> Iterator[Tensor]:
    """Yield the images of each batch; the next one is read meanwhile."""

    def inferring(batch: Numbers) -> Tensor:
        with torch.inference_mode():  # a mode of each thread
            return read(batch)

    with ThreadPoolExecutor(1, thread_name_prefix="flowkit-features") as ahead:
        waiting: Future[Tensor] | None = None
        for batch in batches:
            following = ahead.submit(inferring, batch)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
