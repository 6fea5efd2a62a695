"""Scores, features and gates of a set of clips by one trial's networks, kept as an .npz file.

All tables, tests and pages are made from these arrays alone, so that they can be made again
without a network.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gating.errors import ScoresError
from gating.fusions.base import FusionData
from gating.run_folder import DAMAGE, read_arrays, write_arrays

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
        float64 (N, C), scores before softmax, means over segments and crops.
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
        if count and not -1 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ScoresError(
                f"labels must be in [-1, {len(self.classes)}), got {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.ids)

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

    def save(self, path: Path) -> None:
        """Write the scores, over an earlier file."""
        head = {name: getattr(self, name) for name in ("ids", "groups", "classes", "segments", "crops")}
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        write_arrays(path, {"head": json.dumps({"format": FORMAT, **head}), **arrays})


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
        head = json.loads(str(arrays["head"]))
        values: dict[str, Any] = {name: arrays[name] for name in _ARRAYS if name in arrays}
        if head.pop("format", None) != FORMAT:
            raise ScoresError(f"{path} is not of format {FORMAT!r}")
        values |= {name: tuple(one) if isinstance(one, list) else one for name, one in head.items()}
        return ClipScores(**values)
    except DAMAGE as error:
        raise ScoresError(f"{path} holds no scores: {error}; make them again with `flowkit eval`") from error
