"""The data that fusions read, and the base class: the interface and the declarations of every fusion.

A fusion is one class in a file of its own and one line in `gating.fusions.FUSIONS`. The comparison,
the command's table and the report read its kind, its terms and its needs; no other module has a
list of fusions.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
from collections.abc import Set
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError

Scores = NDArray[np.float64]
Sums = Literal["scores", "probabilities"]
Need = Literal["features", "images", "labels"]


class Kind(enum.StrEnum):
    """The origin of a fusion's weights, in the order of tables, which print the value."""

    STREAM = "one stream"
    FIXED = "fixed weights"
    CONFIDENCE = "by confidence"
    """A rule of each clip's scores, without anything learned."""
    LEARNED = "learned"
    GATE = "the gate"
    OTHER = "other"
    """Of a run's file, and not registered here."""
    BOUND = "bound"
    """No method: it reads the labels of the clips that it is applied to."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionData:
    """Both streams' scores and features of N clips.

    Parameters
    ----------
    flow, rgb : NDArray
        (N, classes), scores before softmax, already averaged over segments and crops.
    labels : NDArray
        int (N,).
    flow_features, rgb_features : NDArray or None
        (N, D), pooled features, averaged likewise; for fusions that need "features".
    gates, gated : NDArray or None
        (N, 2) and (N, classes): the trained gate's weights of flow and rgb before any fallback, and
        its fused scores; for the gate, which needs "images".
    groups : NDArray or None
        (N,): clips of one group never part when a fusion validates within its own data.
    """

    flow: Scores
    rgb: Scores
    labels: NDArray[np.int64]
    flow_features: Scores | None = None
    rgb_features: Scores | None = None
    gates: Scores | None = None
    gated: Scores | None = None
    groups: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        """Check that all arrays are of the same clips and classes."""
        if self.flow.ndim != 2 or self.flow.shape != self.rgb.shape:
            raise InvalidParameterError(
                f"flow and rgb scores must be (clips, classes) alike, got {self.flow.shape} "
                f"and {self.rgb.shape}"
            )
        for name in ("labels", "flow_features", "rgb_features", "gates", "gated", "groups"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.flow):
                raise InvalidParameterError(f"{name} must have {len(self.flow)} clips, got {len(value)}")

    @property
    def classes(self) -> int:
        """The number of classes of the scores."""
        return int(self.flow.shape[1])

    def offers(self, needs: Set[Need]) -> bool:
        """Return True if these clips have all that a fusion needs."""
        lacking = {"features": self.flow_features is None, "images": self.gated is None, "labels": False}
        return not any(lacking[need] for need in needs)

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


class Fusion(abc.ABC):
    """A rule that fuses both streams' scores into one, fitted on clips held out from the streams.

    A class declares itself by plain attributes, or by fields and properties where they differ
    between its names.

    Attributes
    ----------
    kind : Kind
        Its group in tables.
    sums : {"scores", "probabilities"}
        Terms of its scores. Sums of probabilities are scaled to be its confidence; all
        others go through softmax.
    needs : set of {"features", "images", "labels"}
        Data of the clips that it reads beside both streams' scores. Features must be of the same networks
        where it is fitted and where it is applied.
    """

    __slots__ = ()

    @property
    @abc.abstractmethod
    def kind(self) -> Kind:
        """See the class."""

    @property
    def sums(self) -> Sums:
        """See the class."""
        return "scores"

    @property
    def needs(self) -> Set[Need]:
        """See the class."""
        return frozenset()

    @abc.abstractmethod
    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn from held-out clips; the same data and seed give the same fusion."""

    @abc.abstractmethod
    def apply(self, data: FusionData) -> Scores:
        """Return fused scores, float64 (N, classes); only a bound reads the labels."""

    def to_probabilities(self, scores: Scores) -> Scores:
        """Return the probabilities, float64 (N, classes), of the scores that `apply` returned."""
        if self.sums == "probabilities":
            total: Scores = scores / scores.sum(axis=1, keepdims=True)
            return total
        return softmax(scores)

    def clip_weights(self, data: FusionData) -> Scores | None:
        """Return each clip's weights of flow and rgb, float64 (N, 2); None without such a pair."""
        return None

    def fell_back(self, data: FusionData) -> NDArray[np.bool_]:
        """Return a mask of the clips with fixed weights instead of the fusion's own, bool (N,)."""
        return np.zeros(len(data.flow), bool)


def weigh_clips(data: FusionData, weights: Scores) -> Scores:
    """Return flow's and rgb's scores summed by each clip's weights (N, 2), float64 (N, classes)."""
    flow, rgb = data.flow.astype(np.float64), data.rgb.astype(np.float64)
    total: Scores = weights[:, :1] * flow + weights[:, 1:] * rgb
    return total


def both_zero(gates: Scores) -> NDArray[np.bool_]:
    """Return where both gates are zero, bool (N,), of gates (N, 2): such clips get the fixed weights.

    Their fused scores would be zero for every class; `gating.models.gate.with_fallback` does it on tensors.
    """
    return np.asarray((gates <= 0).all(axis=1))


def softmax(scores: Scores) -> Scores:
    """Return probabilities, float64 (N, classes)."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    probabilities: Scores = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
