"""Crops, flips and normalisation of a batch on its device: one draw for both modalities of a clip.

A crop and its flip are drawn on the CPU, from seeds alone, and are applied in one resampling on the
batch's device: frames and flow of a clip, and all its segments, get the same. On a flip the codes of
x-flow become 255 - code. Nothing here waits for the device: inputs are copied without blocking.

Source: tsn-pytorch, transforms.py (`GroupMultiScaleCrop`, `GroupOverSample`); the released
gating networks' transform_param.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowkit.errors import InvalidParameterError
from gating.config import AugmentConfig
from gating.models.backbones import InputSpec

FLOW_ZERO = 128.0
LEVELS = 255.0
# TSN: a crop within 3 px of the network's size is taken at that size, and so not resampled.
SNAP_PX = 3
TSN_FRACTION = 224 / 256


@dataclasses.dataclass(frozen=True, slots=True)
class Crops:
    """One crop a clip.

    Attributes
    ----------
    boxes : Tensor
        int64 (B, 4): top, left, height, width, px.
    flips : Tensor
        bool (B,).
    """

    boxes: Tensor
    flips: Tensor

    def to(self, device: torch.device) -> Self:
        """Return the crops on a device."""
        return type(self)(self.boxes.to(device, non_blocking=True), self.flips.to(device, non_blocking=True))


def flow_codes(flow: Tensor, scale: Tensor, *, bound_px: float, offset_px: float = 0.0) -> Tensor:
    """Map flow to TSN's codes: clip to +-bound, then round(255 (v + bound) / (2 bound)); zero is 128.

    Parameters
    ----------
    flow, scale
        `flow` (B, K, 2L, H, W) and `flow_scale` (B, K, 2L, 1, 1) of a batch of `flowkit.datasets`,
        in any of its forms: px per frame step is flow * scale + `offset_px`.
    bound_px
        `AugmentConfig.bound_px`.
    offset_px
        `flow_offset_px` of the dataset.

    Returns
    -------
    Tensor
        float32 of flow's shape, whole numbers in [0, 255].
    """
    px = flow.float() * scale.to(flow.device, non_blocking=True) + offset_px
    return ((px.clamp(-bound_px, bound_px) + bound_px) * (LEVELS / (2 * bound_px))).round()


def draw_crops(clips: int, size: tuple[int, int], config: AugmentConfig, generator: torch.Generator) -> Crops:
    """Draw one of TSN's thirteen positions at one of its scales, and a flip, for each clip.

    Parameters
    ----------
    clips
        Number of them.
    size
        Height and width of the stored images, px.
    generator
        On the CPU; its state decides the draw.
    """
    sides = _crop_sides(min(size), config)
    pairs = [
        (high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= config.max_distort
    ]
    boxes = torch.tensor([[_box(size, pair, position) for position in POSITIONS] for pair in pairs])
    chosen = torch.randint(len(pairs), (clips,), generator=generator)
    positions = torch.randint(len(POSITIONS), (clips,), generator=generator)
    coins = torch.rand(clips, generator=generator)
    return Crops(boxes[chosen, positions], (coins < 0.5) & config.flip)


# Down and right, in quarters of the remaining margin: corners, centre, edges, inner corners.
POSITIONS = (
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)
FIVE_POSITIONS = POSITIONS[:5]


def _crop_sides(shorter: int, config: AugmentConfig) -> list[int]:
    sides = [int(shorter * scale) for scale in config.scales]
    return [config.size if abs(side - config.size) < SNAP_PX else side for side in sides]


def _box(
    size: tuple[int, int], crop: tuple[int, int], position: tuple[int, int]
) -> tuple[int, int, int, int]:
    # A side that snapped up to the network's size may exceed the image by a pixel or two.
    high, wide = (min(side, room) for side, room in zip(crop, size, strict=True))
    down, right = position
    return down * ((size[0] - high) // 4), right * ((size[1] - wide) // 4), high, wide


def seed_of(*numbers: int) -> int:
    """Return a seed made of several numbers, 63 bits."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class StepCrops:
    """The crops of one training step, the same whatever the processes and micro-batches.

    A clip's own depend on the seed, on its number within the step and on its size alone.

    Parameters
    ----------
    augment
        Scales and flips of the draw.
    clips
        Of the step, over all processes.
    seed
        Numbers that make the seed.
    partition
        This process's clips among the step's.
    """

    def __init__(self, augment: AugmentConfig, clips: int, seed: tuple[int, ...], partition: slice) -> None:
        self._augment, self._clips, self._seed, self._partition = augment, clips, seed, partition
        self._by_size: dict[tuple[int, int], Crops] = {}

    def of(self, size: tuple[int, int], clips: slice) -> Crops:
        """Return the crops of some of this process's clips, all of one size."""
        if size not in self._by_size:
            rng = torch.Generator().manual_seed(seed_of(*self._seed))
            self._by_size[size] = draw_crops(self._clips, size, self._augment, rng)
        drawn = self._by_size[size]
        return Crops(drawn.boxes[self._partition][clips], drawn.flips[self._partition][clips])


def evaluation_crops(clips: int, size: tuple[int, int], config: AugmentConfig, count: int) -> list[Crops]:
    """Return the crops of testing: 1 (centre), 5 (corners and centre) or 10 (and their mirrors).

    A crop's side is TSN's fraction of the shorter side, 224 of 256, and is resized to the network's
    size where that differs. With `AugmentConfig.whole_frame` the one crop is the frame.

    Returns
    -------
    list of Crops
        One entry a crop, the same for all clips.
    """
    if count not in (1, 5, 10):
        raise InvalidParameterError(f"crops must be 1, 5 or 10, got {count}")
    if config.whole_frame:
        if count > 1:
            raise InvalidParameterError(f"crops must be 1 of whole frames, got {count}")
        box = torch.tensor((0, 0, *size))
        return [Crops(box.expand(clips, 4), torch.zeros(clips, dtype=torch.bool))]
    side = round(min(size) * TSN_FRACTION)
    side = config.size if abs(side - config.size) < SNAP_PX else side
    positions = ((2, 2),) if count == 1 else FIVE_POSITIONS
    crops = []
    for flipped in (False, True)[: 2 if count == 10 else 1]:
        for position in positions:
            box = torch.tensor(_box(size, (side, side), position))
            crops.append(Crops(box.expand(clips, 4), torch.full((clips,), flipped)))
    return crops


def resample(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut each clip's crop out of its images and resize it bilinearly, mirrored where it flips.

    Parameters
    ----------
    images
        float (B, C, H, W); segments and channels together.
    crops
        On the images' device.

    Returns
    -------
    Tensor
        float32 (B, C, size, size). Equal to OpenCV's INTER_LINEAR of the crop alone: nothing
        outside of the crop is read.
    """
    height, width = images.shape[-2:]
    boxes = crops.boxes.float()
    steps = (torch.arange(size, device=images.device) + 0.5) / size
    rows = _positions(boxes[:, 0:1], boxes[:, 2:3], steps)
    mirrored = torch.where(crops.flips[:, None], 1 - steps, steps)
    columns = _positions(boxes[:, 1:2], boxes[:, 3:4], mirrored)
    # grid_sample counts from -1 to 1 over the outer edges of the image.
    across = ((2 * columns + 1) / width - 1)[:, None, :].expand(-1, size, -1)
    down = ((2 * rows + 1) / height - 1)[:, :, None].expand(-1, -1, size)
    grid = torch.stack([across, down], dim=-1)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _positions(first: Tensor, side: Tensor, steps: Tensor) -> Tensor:
    """Return the pixel centres to read, px, kept within the crop [first, first + side - 1]."""
    return torch.minimum(torch.maximum(first + steps * side - 0.5, first), first + side - 1)


def rgb_input(frames: Tensor, crops: Crops, inputs: InputSpec, *, size: int) -> Tensor:
    """Return the spatial stream's input.

    Parameters
    ----------
    frames
        uint8 RGB (B, K, 3, H, W).
    crops
        On the frames' device.
    inputs
        Of the stream's backbone: mean, std and channel order.

    Returns
    -------
    Tensor
        float32 (B, K, 3, size, size).
    """
    images = resample(frames.flatten(1, 2), crops, size)
    return _normalised(images.view(*frames.shape[:3], size, size), inputs)


def _normalised(images: Tensor, inputs: InputSpec) -> Tensor:
    """Return images (B, K, 3, h, w) in [0, 255] in the network's channel order and scale."""
    if inputs.order == "bgr":
        images = images.flip(2)
    # A tensor that is made on the device from a list would wait for it.
    constants = torch.tensor([inputs.mean, inputs.std]).to(images.device, non_blocking=True)
    mean, std = constants[0, :, None, None], constants[1, :, None, None]
    return (images - mean) / std


def flow_input(codes: Tensor, crops: Crops, inputs: InputSpec, *, size: int) -> Tensor:
    """Return the temporal stream's input.

    Parameters
    ----------
    codes
        float (B, K, 2L, H, W), of `flow_codes`.
    crops
        On the codes' device.
    inputs
        Of the stream's backbone: its `flow_std`.

    Returns
    -------
    Tensor
        float32 (B, K, 2L, size, size): (code - 128) / flow_std, of codes resized as codes.
    """
    images = resample(codes.flatten(1, 2), crops, size)
    images = images.view(*codes.shape[:3], size, size)
    across = images[:, :, 0::2]
    flips = crops.flips[:, None, None, None, None]
    images[:, :, 0::2] = torch.where(flips, LEVELS - across, across)
    return (images - FLOW_ZERO) / inputs.flow_std


def flow_image_input(codes: Tensor, crops: Crops, inputs: InputSpec, *, size: int) -> Tensor:
    """Return the temporal stream's input of one field as an image.

    Parameters
    ----------
    codes
        float (B, K, 2, H, W), of `flow_codes`.
    crops, inputs
        As for `rgb_input`.

    Returns
    -------
    Tensor
        float32 (B, K, 3, size, size): x, y and length; zero flow is (128, 128, 0) and a length at the
        bound is 255, before the normalisation of an image.
    """
    images = resample(codes.flatten(1, 2), crops, size).view(*codes.shape[:3], size, size)
    x, y = images[:, :, 0], images[:, :, 1]
    x = torch.where(crops.flips[:, None, None, None], LEVELS - x, x)
    length = (2 * torch.hypot(x - FLOW_ZERO, y - FLOW_ZERO)).clamp(max=LEVELS)
    return _normalised(torch.stack([x, y, length], dim=2), inputs)
