"""Two streams of the same clips, or one, as arrays: what heads, fusions and gate are fitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gating.config import Modality
from gating.data.loader import BOTH


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamClips:
    """One stream of N clips.

    Attributes
    ----------
    features : NDArray or None
        float32 (N, P), pooled over segments: of the fusions that read features, and of a head.
    scores : NDArray or None
        float64 (N, C), before softmax, of networks that did not learn from these clips; None: a head on
        `features` gives them.
    maps : NDArray or None
        float16 or float32 (N, C, h, w), of the gate.
    """

    features: NDArray[np.float32] | None = None
    scores: NDArray[np.float64] | None = None
    maps: NDArray[np.floating] | None = None

    def of_rows(self, rows: NDArray[np.intp]) -> StreamClips:
        """Return some clips of it, in this order."""
        return StreamClips(
            features=None if self.features is None else self.features[rows],
            scores=None if self.scores is None else self.scores[rows],
            maps=None if self.maps is None else self.maps[rows],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TwoStreams:
    """Both streams of N clips, or one alone, in the order of `ids`."""

    ids: tuple[str, ...]
    flow: StreamClips | None = None
    rgb: StreamClips | None = None

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that are there, flow first."""
        return tuple(one for one in BOTH if getattr(self, one) is not None)

    def of(self, modality: Modality) -> StreamClips:
        """Return one stream, which is there."""
        found = self.flow if modality == "flow" else self.rgb
        assert found is not None, f"there is no stream {modality}"
        return found

    def of_clips(self, ids: Sequence[str]) -> TwoStreams:
        """Return some clips, in this order."""
        row = {video_id: k for k, video_id in enumerate(self.ids)}
        rows = np.array([row[video_id] for video_id in ids], np.intp)
        parts = {one: self.of(one).of_rows(rows) for one in self.modalities}
        return TwoStreams(ids=tuple(ids), **parts)
