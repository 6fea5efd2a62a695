"""Scores, features and gates of a set of clips: made by one trial's networks, and kept as an .npz file.

Networks score many segments and crops of a clip, divided between the processes. All tables, tests and pages
are made from these arrays alone, so that they can be made again without a network.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowkit.untrusted_json import parse_json, typed
from flowkit.validate import check_array
from gating.arrays import DAMAGE, read_arrays, write_arrays
from gating.config import MODALITIES, Modality
from gating.data.loader import BOTH, ClipLoader, InputBatch
from gating.distributed import autocast
from gating.errors import ScoresError
from gating.fusions.base import FusionData
from gating.models.backbones import InputSpec
from gating.models.gate import GatingConvNet, activate, fuse, with_fallback
from gating.models.streams import Stream

Array = NDArray[np.float64]
FORMAT = "flowkit-scores 1"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipScores:
    """Scores of N clips and C classes.

    Parameters
    ----------
    ids, groups : tuple of str
        Of each clip; a clip without a group is its own.
    classes : tuple of str
        Names, in the order of the scores.
    labels : NDArray
        int64 (N,), an index into `classes`; -1 where it is not known.
    flow, rgb : NDArray
        float64 (N, C), scores before softmax, means over segments and crops; zeros of a stream that is not
        among `modalities`.
    flow_features, rgb_features : NDArray or None
        float64 (N, D), pooled features, averaged likewise; None where the scores are of
        out-of-fold streams, whose features are no use to the final streams.
    gates : NDArray or None
        float64 (N, 2), weights of flow and rgb as the gate gave them, before any fallback; means
        over segments with placement "snippet".
    gated : NDArray or None
        float64 (N, C), the gate's fused scores, with the fixed weights where both gates are zero.
    segments, crops : int
        The number of each that the means are over.
    modalities : tuple of {"rgb", "flow"}
        The streams that were trained: both, or one alone.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    flow: Array
    rgb: Array
    flow_features: Array | None = None
    rgb_features: Array | None = None
    gates: Array | None = None
    gated: Array | None = None
    segments: int = 1
    crops: int = 1
    modalities: tuple[Modality, ...] = MODALITIES

    def __post_init__(self) -> None:
        """Check that all arrays are of the same clips."""
        count = len(self.ids)
        for name in (*_ARRAYS, "groups"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise ScoresError(f"{name} must have {count} clips, got {len(value)}")
        for name in ("flow", "rgb", "gated"):
            value = getattr(self, name)
            if value is not None and value.shape[1:] != (len(self.classes),):
                raise ScoresError(f"{name} must have {len(self.classes)} classes, got {value.shape[1:]}")
        if self.modalities not in (MODALITIES, *((one,) for one in MODALITIES)):
            raise ScoresError(f"modalities must be rgb and flow, or one of them, got {self.modalities}")
        if count and not -1 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ScoresError(
                f"labels must be in [-1, {len(self.classes)}), got {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lone_stream(self) -> Modality | None:
        """The stream that was trained alone, None of both."""
        return self.modalities[0] if len(self.modalities) == 1 else None

    def fusion_data(self) -> FusionData:
        """Return the arrays that `gating.fusions` reads."""
        return FusionData(
            flow=self.flow,
            rgb=self.rgb,
            labels=self.labels,
            flow_features=self.flow_features,
            rgb_features=self.rgb_features,
            gates=self.gates,
            gated=self.gated,
            groups=np.array(self.groups),
        )

    def of_rows(self, rows: NDArray[np.intp]) -> ClipScores:
        """Return the scores of some clips, in this order."""
        values: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in _ARRAYS if getattr(self, name) is not None
        }
        for name in ("ids", "groups"):
            own = getattr(self, name)
            values[name] = tuple(own[k] for k in rows)
        return dataclasses.replace(self, **values)

    def save(self, path: Path) -> None:
        """Write the scores, over an earlier file."""
        names = ("ids", "groups", "classes", "segments", "crops")
        head = {name: getattr(self, name) for name in names}
        if self.lone_stream is not None:
            head["modalities"] = self.modalities
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        write_arrays(path, {"head": json.dumps({"format": FORMAT, **head}), **arrays})


class _Head(TypedDict):
    """The head of a file of scores."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    segments: int
    crops: int
    modalities: tuple[Modality, ...]


# Columns of an array, where they are not the classes.
_COLUMNS: dict[str, int | str] = {"flow_features": "D", "rgb_features": "D", "gates": 2}
_ARRAYS = ("labels", "flow", "rgb", "flow_features", "rgb_features", "gates", "gated")


def load_scores(path: Path | str) -> ClipScores:
    """Return the scores of a file that `ClipScores.save` wrote.

    Raises
    ------
    ScoresError
        It is absent, damaged, or none.
    """
    try:
        arrays = read_arrays(Path(path))
        head = parse_json(str(arrays["head"]), source="head")
        if not isinstance(head, dict) or head.pop("format", None) != FORMAT:
            raise ScoresError(f"{path} is not of format {FORMAT!r}")
        about: _Head = typed("head", {"modalities": [*MODALITIES], **head}, _Head)
        values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS if name in arrays}
        for name, value in values.items():
            shape = ("N",) if name == "labels" else ("N", _COLUMNS.get(name, "C"))
            check_array(name, value, shape, dtype=np.int64 if name == "labels" else np.float64)
        return ClipScores(**values, **about)
    except DAMAGE as error:
        raise ScoresError(f"{path} holds no scores: {error}; make them again with `flowkit eval`") from error


def joined_scores(parts: Sequence[ClipScores]) -> ClipScores:
    """Return the scores of several sets of clips as one; all have the same arrays."""
    values: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in _ARRAYS
        if getattr(parts[0], name) is not None
    }
    for name in ("ids", "groups"):
        values[name] = tuple(k for part in parts for k in getattr(part, name))
    return dataclasses.replace(parts[0], **values)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """Both streams, or one alone, and the gate where there is one.

    Attributes
    ----------
    flow, rgb : Stream or None
        Of one number of classes; None where the other one was trained alone.
    gate : GatingConvNet or None
        Reads both streams' feature maps.
    scorers : (Stream, Stream) or None
        Of flow and rgb: they give the scores, and `flow` and `rgb` the feature maps alone. Where the final
        streams have learned from the clips, these have not.
    """

    flow: Stream | None = None
    rgb: Stream | None = None
    gate: GatingConvNet | None = None
    scorers: tuple[Stream, Stream] | None = None

    @property
    def streams(self) -> dict[Modality, Stream]:
        """The streams by modality, flow first."""
        both: dict[Modality, Stream | None] = {"flow": self.flow, "rgb": self.rgb}
        return {modality: stream for modality, stream in both.items() if stream is not None}

    @property
    def inputs(self) -> InputSpec:
        """The input of the backbones, which is the same for both."""
        return next(iter(self.streams.values())).backbone.inputs

    def eval(self) -> None:
        """Set evaluation mode."""
        for net in (self.flow, self.rgb, self.gate, *(self.scorers or ())):
            if net is not None:
                net.eval()


@torch.inference_mode()
def score_clips(
    networks: Networks,
    batches: ClipLoader,
    ids: Sequence[str],
    *,
    segments: int,
    crops: int = 1,
    features: bool = True,
    precision: torch.dtype | None = None,
) -> ClipScores:
    """Return the networks' scores of clips, in the order of `ids`.

    Scores, features and pre-activations of the gate are averaged over crops and segments; with
    placement "snippet" each segment of each crop is weighed before that.

    Parameters
    ----------
    networks
        On the batches' device.
    ids
        Clips of the batches' trial.
    segments, crops
        A clip; TSN tests with 25 and 10.
    features
        Keep the pooled features.
    precision
        Of mixed precision, or None.
    """
    networks.eval()
    process_group = batches.process_group
    rows: list[dict[str, np.ndarray]] = []
    modalities = tuple(networks.streams)
    for several in batches.testing(ids, modalities, segments=segments, crops=crops):
        with autocast(process_group.device, precision):
            rows.extend(_rows(networks, several))
    by_id = {str(row["id"]): row for part in process_group.all_gather(rows) for row in part}
    ordered = [by_id[video_id] for video_id in ids]
    arrays = {name: np.stack([row[name] for row in ordered]) for name in ordered[0] if name != "id"}
    if not features:
        arrays = {name: value for name, value in arrays.items() if not name.endswith("_features")}
    for name in BOTH:
        if name not in arrays:
            arrays[name] = np.zeros_like(arrays[modalities[0]])
    data = batches.data
    return ClipScores(
        ids=tuple(ids),
        groups=tuple(data.groups.get(video_id, video_id) for video_id in ids),
        classes=data.classes,
        segments=segments,
        crops=crops,
        modalities=tuple(one for one in MODALITIES if one in modalities),
        **arrays,
    )


def _rows(networks: Networks, crops: Sequence[InputBatch]) -> Iterator[dict[str, np.ndarray]]:
    """Yield each clip's arrays, from the same clips under several crops."""
    found = clip_tensors(networks, {name: [one.of(name) for one in crops] for name in networks.streams})
    arrays = {name: value.cpu().numpy() for name, value in {"labels": crops[0].labels, **found}.items()}
    for k, video_id in enumerate(crops[0].ids):
        own_row = {
            name: value[k].astype(np.float64 if name != "labels" else np.int64)
            for name, value in arrays.items()
        }
        yield {"id": np.array(video_id), **own_row}


def clip_tensors(networks: Networks, inputs: Mapping[Modality, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Return the arrays of `ClipScores` of B clips, as float32 tensors.

    Parameters
    ----------
    networks
        On the tensors' device.
    inputs
        Each stream's input (B, K, C, S, S), of each crop.
    """
    outputs = {name: [net(one) for one in inputs[name]] for name, net in networks.streams.items()}
    scoring = [*outputs.values()]
    if networks.scorers is not None:
        scoring = [[net(one) for one in inputs[net.config.modality]] for net in networks.scorers]
    # Crops and segments are averaged alike: they share one axis.
    scores = [torch.cat([out.scores.float() for out in outs], dim=1) for outs in scoring]
    found: dict[str, Tensor] = {}
    for (name, outs), own in zip(outputs.items(), scores, strict=True):
        found[name] = own.mean(dim=1)
        found[f"{name}_features"] = torch.cat([out.features.float() for out in outs], dim=1).mean(dim=1)
    if networks.gate is not None:
        config = networks.gate.config
        raw = [
            networks.gate(flow.feature_map, rgb.feature_map).raw.float()
            for flow, rgb in zip(outputs["flow"], outputs["rgb"], strict=True)
        ]
        mean = torch.stack(raw).mean(dim=0) if config.placement == "consensus" else torch.cat(raw, dim=1)
        gates = activate(mean, config)
        alive = with_fallback(gates, config.fixed)
        found["gated"] = fuse(alive, scores[0], scores[1])
        found["gates"] = gates if gates.ndim == 2 else gates.mean(dim=1)
    return found
