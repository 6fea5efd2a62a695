"""Features and maps of clips by frozen backbones, computed once and kept beside the store.

::

    STORE.features/rgb-<digest>.h5, flow-<digest>.h5
                        one file a stream and set of choices, which its attribute `choices` has as JSON
        ids             text (N,)
        features        float32 (N, K, D), pooled, of each segment
        maps            float16 (N, C, h, w), the layer that the gate reads, means over segments

A file that is damaged, or of which a clip is missing, is made anew, from what it has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from flowkit.atomic import replacement
from flowkit.remote import RemotePath
from flowkit.store.read.store import Store
from gating.config import Modality
from gating.data.loader import BOTH, ClipLoader
from gating.data.partition import flow_record
from gating.distributed import autocast
from gating.frozen.clips import StreamClips, TwoStreams
from gating.models.streams import BackboneOutput, Stream, clip_features
from gating.train_config import TrainConfig

FORMAT = "flowkit-features 2"
CLIPS_A_SAVE = 256
"""Computed before the files are written anew, or a quarter of those that are there, if that is more: what an
interrupted run loses at most. All writes together are then a few times the files."""
SUFFIX = ".features"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModalityFeatures:
    """One backbone's features and maps of N clips.

    Attributes
    ----------
    features : NDArray
        float32 (N, K, D).
    maps : NDArray
        float16 (N, C, h, w).
    """

    features: NDArray[np.float32]
    maps: NDArray[np.float16]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipFeatures:
    """Features and maps of N clips by both backbones, or by one alone, in the order of `ids`."""

    ids: tuple[str, ...]
    flow: ModalityFeatures | None = None
    rgb: ModalityFeatures | None = None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that are there, flow first."""
        return tuple(one for one in BOTH if getattr(self, one) is not None)

    def of(self, modality: Modality) -> ModalityFeatures:
        """Return one modality's, which is there."""
        found = self.flow if modality == "flow" else self.rgb
        assert found is not None, f"{modality} has no features here"
        return found

    def alone(self, modality: Modality) -> ClipFeatures:
        """Return one modality's without the other's."""
        return ClipFeatures(ids=self.ids, **{modality: self.of(modality)})

    def of_clips(self, ids: Sequence[str]) -> ClipFeatures:
        """Return those of some clips, in this order."""
        row = {video_id: k for k, video_id in enumerate(self.ids)}
        rows = np.array([row[video_id] for video_id in ids], np.intp)
        parts = {
            one: ModalityFeatures(features=self.of(one).features[rows], maps=self.of(one).maps[rows])
            for one in self.modalities
        }
        return ClipFeatures(ids=tuple(ids), **parts)

    def below_head(self, modality: Modality, device: torch.device) -> BackboneOutput:
        """Return one modality's as a stream's backbone gives it."""
        own = self.of(modality)
        maps = torch.from_numpy(own.maps).to(device).float()
        return BackboneOutput(torch.from_numpy(own.features).to(device), maps[:, None])


def features_folder(store: Store) -> Path | None:
    """Return the folder beside a store; None where none can be: at an address, or in a read-only folder."""
    if isinstance(store.path, RemotePath) or not os.access(store.path.parent, os.W_OK):
        return None
    return store.path.with_name(store.path.name + SUFFIX)


def choices_of(store: Store, config: TrainConfig, modality: Modality, stream: Stream) -> dict[str, Any]:
    """Return all that decides a stream's features, as plain values: store, input, sampling and weights."""
    digest = hashlib.sha256()
    for name in ("id", "n_frames", "n_flow"):
        digest.update(json.dumps([str(one) for one in store.column(name)]).encode())
    if isinstance(store.path, Path):
        about = store.path.stat()
        digest.update(f"{about.st_size} {about.st_mtime_ns}".encode())
    of_flow = {
        "flow": dict(flow_record(store.options)),
        "field": config.field,
        "flow_input": config.flow_input,
        "bound_px": config.augment.bound_px,
    }
    return {
        "format": FORMAT,
        "store": digest.hexdigest(),
        "modality": modality,
        "backbone": config.backbone,
        "segments": config.test_segments,
        # Frames are taken where a stack of fields fits.
        "stack": config.stack,
        "short": config.short,
        "size": config.augment.size,
        "whole_frame": config.augment.whole_frame,
        "weights": weights_digest(stream),
        "tap": stream.tap,
        **(of_flow if modality == "flow" else {}),
    }


def weights_digest(stream: Stream) -> str:
    """Return the digest of a backbone's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(stream.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FeatureCache:
    """The features of a store's clips by one backbone and some choices, in a folder.

    Parameters
    ----------
    folder : Path
        Of the files.
    modality : {"rgb", "flow"}
        Of the stream.
    choices : mapping
        As `choices_of` gives them.
    """

    folder: Path
    modality: Modality
    choices: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        text = json.dumps(self.choices, sort_keys=True)
        return self.folder / f"{self.modality}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.h5"

    def load(self) -> ClipFeatures | None:
        """Return what the file has, of this stream alone; None if it is absent or damaged."""
        try:
            with h5py.File(self.path) as file:
                if json.loads(str(file.attrs["choices"])) != json.loads(json.dumps(dict(self.choices))):
                    return None
                ids = tuple(one.decode() for one in file["ids"][:])
                own = ModalityFeatures(
                    features=file["features"][:].astype(np.float32, copy=False),
                    maps=file["maps"][:].astype(np.float16, copy=False),
                )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError):
            return None
        sound = len(own.features) == len(own.maps) == len(ids)
        return ClipFeatures(ids=ids, **{self.modality: own}) if sound else None

    def save(self, clips: ClipFeatures) -> None:
        """Write the file, over an earlier one."""
        own = clips.of(self.modality)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacement(self.path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["choices"] = json.dumps(dict(self.choices))
            file["ids"] = np.array([one.encode() for one in clips.ids], dtype=object)
            file["features"] = own.features
            file["maps"] = own.maps


@torch.inference_mode()
def computed_features(
    streams: Mapping[Modality, Stream],
    batches: ClipLoader,
    ids: Sequence[str],
    *,
    on_clips: Callable[[int], None] = lambda _: None,
) -> ClipFeatures:
    """Run the backbones, both or one, over clips.

    Parameters
    ----------
    streams
        On the batches' device.
    ids
        Clips of the batches' trial.
    on_clips
        Called with the number of clips that are done.
    """
    for stream in streams.values():
        stream.eval()
    modalities = [one for one in BOTH if one in streams]
    process_group = batches.process_group
    rows: list[tuple[str, list[NDArray[Any]]]] = []
    for (batch,) in batches.testing(ids, modalities, segments=batches.config.test_segments):
        with autocast(process_group.device, batches.precision):
            found = {one: streams[one].below_head(batch.of(one)) for one in modalities}
        rows.extend(_rows(batch.ids, found))
        on_clips(len(rows))
    by_id = {video_id: arrays for part in process_group.all_gather(rows) for video_id, arrays in part}
    columns = [np.stack([by_id[video_id][k] for video_id in ids]) for k in range(2 * len(modalities))]
    parts = {
        one: ModalityFeatures(features=columns[2 * k], maps=columns[2 * k + 1])
        for k, one in enumerate(modalities)
    }
    return ClipFeatures(ids=tuple(ids), **parts)


def _rows(
    ids: Sequence[str], found: Mapping[Modality, BackboneOutput]
) -> Iterator[tuple[str, list[NDArray[Any]]]]:
    """Yield each clip's id and arrays, in the order of `found`: features, maps."""
    arrays = [
        (below.features.float().cpu().numpy(), below.feature_map[:, 0].half().cpu().numpy())
        for below in found.values()
    ]
    for k, video_id in enumerate(ids):
        yield video_id, [array[k] for pair in arrays for array in pair]


def pooled(clips: ClipFeatures) -> TwoStreams:
    """Return the streams with their segments pooled, as heads read them."""
    parts = {
        one: StreamClips(
            features=clip_features(torch.from_numpy(clips.of(one).features)).numpy(), maps=clips.of(one).maps
        )
        for one in clips.modalities
    }
    return TwoStreams(ids=clips.ids, **parts)


def clip_features_of(
    caches: Mapping[Modality, FeatureCache],
    compute: Callable[[Sequence[str], Sequence[Modality]], ClipFeatures],
    ids: Sequence[str],
    *,
    keep: bool,
) -> ClipFeatures:
    """Return the features of clips: those of the caches, and computed ones, which they keep.

    Parameters
    ----------
    caches
        By stream. Read, and written where something was missing.
    compute
        Returns the features of clips by the streams that lack them.
    ids
        The clips, one or more.
    keep
        Write the caches: of several processes one does.
    """
    there: dict[Modality, ClipFeatures] = {}
    for one, cache in caches.items():
        found = cache.load()
        there[one] = ClipFeatures(ids=()) if found is None else found
    for lacking, missing in _missing(there, ids).items():
        while missing:
            count = max(CLIPS_A_SAVE, len(there[lacking[0]].ids) // 4)
            made, missing = compute(missing[:count], lacking), missing[count:]
            for one in lacking:
                there[one] = _joined(there[one], made.alone(one), one)
                if keep:
                    caches[one].save(there[one])
    return ClipFeatures(ids=tuple(ids), **{one: own.of_clips(ids).of(one) for one, own in there.items()})


def _missing(
    there: Mapping[Modality, ClipFeatures], ids: Sequence[str]
) -> dict[tuple[Modality, ...], list[str]]:
    """Return the clips that are to be computed by the streams that lack them."""
    known = {one: set(clips.ids) for one, clips in there.items()}
    missing = defaultdict(list)
    for video_id in ids:
        missing[tuple(one for one in there if video_id not in known[one])].append(video_id)
    return {lacking: clips for lacking, clips in missing.items() if lacking}


def _joined(one: ClipFeatures, other: ClipFeatures, modality: Modality) -> ClipFeatures:
    if not one.ids:
        return other
    own, more = one.of(modality), other.of(modality)
    joined = ModalityFeatures(
        features=np.concatenate([own.features, more.features]), maps=np.concatenate([own.maps, more.maps])
    )
    return ClipFeatures(ids=one.ids + other.ids, **{modality: joined})
