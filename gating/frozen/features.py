"""Features and maps of clips by frozen backbones, computed once and kept beside the store.

::

    STORE.features/<digest>.h5      one file a set of choices, which its attribute `choices` has as JSON
        ids                         text (N,)
        rgb/features, flow/features float32 (N, K, D), pooled, of each segment, of both or of one stream
        rgb/maps, flow/maps         float16 (N, C, h, w), the layer that the gate reads, means over segments

A file that is damaged, or of which a clip is missing, is made anew, from what it has.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
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

FORMAT = "flowkit-features 1"
CLIPS_A_SAVE = 256
"""Computed before the file is written anew: what an interrupted run loses at most."""
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


def choices_of(store: Store, config: TrainConfig, streams: Mapping[Modality, Stream]) -> dict[str, Any]:
    """Return all that decides features, as plain values: store, input, sampling and weights."""
    digest = hashlib.sha256()
    for name in ("id", "n_frames", "n_flow"):
        digest.update(json.dumps([str(one) for one in store.column(name)]).encode())
    if isinstance(store.path, Path):
        about = store.path.stat()
        digest.update(f"{about.st_size} {about.st_mtime_ns}".encode())
    return {
        "format": FORMAT,
        "store": digest.hexdigest(),
        "flow": dict(flow_record(store.options)),
        "field": config.field,
        "backbone": config.backbone,
        "flow_input": config.flow_input,
        "segments": config.test_segments,
        "stack": config.stack,
        "short": config.short,
        "size": config.augment.size,
        "whole_frame": config.augment.whole_frame,
        "bound_px": config.augment.bound_px,
        "weights": {one: weights_digest(stream) for one, stream in streams.items()},
        "taps": {one: stream.tap for one, stream in streams.items()},
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
    """The features of a store's clips by some choices, in a folder.

    Parameters
    ----------
    folder : Path
        Of the files.
    choices : mapping
        As `choices_of` gives them.
    """

    folder: Path
    choices: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        text = json.dumps(self.choices, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.h5"

    @property
    def _modalities(self) -> list[Modality]:
        return [one for one in BOTH if one in self.choices.get("weights", BOTH)]

    def load(self) -> ClipFeatures | None:
        """Return what the file has; None if it is absent or damaged."""
        try:
            with h5py.File(self.path) as file:
                if json.loads(str(file.attrs["choices"])) != json.loads(json.dumps(dict(self.choices))):
                    return None
                ids = tuple(one.decode() for one in file["ids"][:])
                parts = {
                    one: ModalityFeatures(
                        features=file[f"{one}/features"][:].astype(np.float32, copy=False),
                        maps=file[f"{one}/maps"][:].astype(np.float16, copy=False),
                    )
                    for one in self._modalities
                }
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError):
            return None
        sound = all(len(part.features) == len(part.maps) == len(ids) for part in parts.values())
        return ClipFeatures(ids=ids, **parts) if sound else None

    def save(self, clips: ClipFeatures) -> None:
        """Write the file, over an earlier one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacement(self.path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["choices"] = json.dumps(dict(self.choices))
            file["ids"] = np.array([one.encode() for one in clips.ids], dtype=object)
            for one in clips.modalities:
                file[f"{one}/features"] = clips.of(one).features
                file[f"{one}/maps"] = clips.of(one).maps


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
    cache: FeatureCache,
    compute: Callable[[Sequence[str]], ClipFeatures],
    ids: Sequence[str],
    *,
    keep: bool,
) -> ClipFeatures:
    """Return the features of clips: those of the cache, and computed ones, which it keeps.

    Parameters
    ----------
    cache
        Read, and written where something was missing.
    compute
        Returns the features of clips; called with `CLIPS_A_SAVE` of them at most.
    ids
        The clips, one or more.
    keep
        Write the cache: of several processes one does.
    """
    there = cache.load()
    known = set() if there is None else set(there.ids)
    missing = [video_id for video_id in ids if video_id not in known]
    for first in range(0, len(missing), CLIPS_A_SAVE):
        made = compute(missing[first : first + CLIPS_A_SAVE])
        there = made if there is None else _joined(there, made)
        if keep:
            cache.save(there)
    assert there is not None
    return there.of_clips(ids)


def _joined(one: ClipFeatures, other: ClipFeatures) -> ClipFeatures:
    parts = {
        name: ModalityFeatures(
            features=np.concatenate([one.of(name).features, other.of(name).features]),
            maps=np.concatenate([one.of(name).maps, other.of(name).maps]),
        )
        for name in one.modalities
    }
    return ClipFeatures(ids=one.ids + other.ids, **parts)
