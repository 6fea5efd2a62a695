"""What fusions see of a set of clips, and what every fusion can do."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError

Scores = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionData:
    """Both streams' words on N clips.

    Parameters
    ----------
    flow, rgb : NDArray
        (N, classes), scores before softmax, already averaged over segments and crops.
    labels : NDArray
        int (N,).
    flow_features, rgb_features : NDArray or None
        (N, D), pooled features, averaged likewise; only `features` and `gmu` need them.
    groups : NDArray or None
        (N,): clips of one group never part when a fusion validates within its own data.
    """

    flow: Scores
    rgb: Scores
    labels: NDArray[np.int64]
    flow_features: Scores | None = None
    rgb_features: Scores | None = None
    groups: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        """Check that all arrays speak of the same clips and classes."""
        if self.flow.ndim != 2 or self.flow.shape != self.rgb.shape:
            raise InvalidParameterError(
                f"flow and rgb scores must be (clips, classes) alike, got {self.flow.shape} "
                f"and {self.rgb.shape}"
            )
        for name in ("labels", "flow_features", "rgb_features", "groups"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.flow):
                raise InvalidParameterError(f"{name} must have {len(self.flow)} clips, got {len(value)}")

    @property
    def classes(self) -> int:
        """How many classes the scores have."""
        return int(self.flow.shape[1])

    def both_scores(self) -> Scores:
        """Return flow's and rgb's scores side by side, float64 (N, 2 * classes)."""
        return np.concatenate([self.flow, self.rgb], axis=1).astype(np.float64)

    def both_features(self) -> tuple[Scores, Scores]:
        """Return flow's and rgb's features, float64.

        Raises
        ------
        InvalidParameterError
            They were not given.
        """
        if self.flow_features is None or self.rgb_features is None:
            raise InvalidParameterError("this fusion reads both streams' pooled features, got none")
        return self.flow_features.astype(np.float64), self.rgb_features.astype(np.float64)


class Fusion(Protocol):
    """A way to make one score of two: fitted on clips held out from the streams, then applied."""

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn from held-out clips; the same data and seed give the same fusion."""

    def apply(self, data: FusionData) -> Scores:
        """Return fused scores, float64 (N, classes); only the oracle reads the labels."""


def softmax(scores: Scores) -> Scores:
    """Return probabilities, float64 (N, classes)."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: Scores = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


class NotFittedError(InvalidParameterError):
    """`apply` came before `fit`."""

    def __init__(self, fusion: object) -> None:
        super().__init__(f"{type(fusion).__name__} must be fitted before it is applied; call fit first")
