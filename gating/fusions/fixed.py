"""Fusions that no loss fits: one stream, given weights, the best weights of a search, and the oracle."""

from __future__ import annotations

import dataclasses

import numpy as np

from gating.config import FIXED_WEIGHTS
from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores, Sums, softmax
from gating.statistics import correct_predictions, top1

# Flow's fraction of the two weights; both single streams are among them.
FRACTIONS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FixedWeights(Fusion):
    """`flow` times flow's scores or probabilities plus `rgb` times rgb's; 0 and 1 take one stream alone."""

    flow: float
    rgb: float
    sums: Sums = "scores"

    @property
    def kind(self) -> Kind:
        """One stream, or both."""
        return Kind.FIXED if self.flow and self.rgb else Kind.STREAM

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn nothing."""

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        return weighted_sum(data, (self.flow, self.rgb), self.sums)

    def clip_weights(self, data: FusionData) -> Scores:
        """Return the same weights for each clip, float64 (N, 2)."""
        return np.tile([self.flow, self.rgb], (len(data.flow), 1))


def tsn_weights(*, sums: Sums = "scores") -> FixedWeights:
    """Return TSN's flow 1.5 : rgb 1. Source: TSN's README, on scores before softmax."""
    flow, rgb = FIXED_WEIGHTS
    return FixedWeights(flow=flow, rgb=rgb, sums=sums)


@dataclasses.dataclass(kw_only=True, slots=True)
class Search(Fusion):
    """The baseline: weights (fraction, 1 - fraction) with the best top-1 on the data of `fit`.

    Fractions often tie: of all the best, the middle one is taken, away from the edges of the range
    where the predictions change.
    """

    kind = Kind.FIXED

    sums: Sums = "scores"
    fraction: float | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Try every fraction."""
        accuracies = np.array([top1(self._sum(data, one), data.labels) for one in FRACTIONS])
        best = np.flatnonzero(accuracies == accuracies.max())
        self.fraction = float(FRACTIONS[best[len(best) // 2]])

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        return self._sum(data, self._fitted())

    def clip_weights(self, data: FusionData) -> Scores:
        """Return the same weights for each clip, float64 (N, 2)."""
        fraction = self._fitted()
        return np.tile([fraction, 1 - fraction], (len(data.flow), 1))

    def _fitted(self) -> float:
        if self.fraction is None:
            raise NotFittedError(self)
        return self.fraction

    def _sum(self, data: FusionData, fraction: float) -> Scores:
        return weighted_sum(data, (fraction, 1 - fraction), self.sums)


def weighted_sum(data: FusionData, weights: tuple[float, float], sums: Sums) -> Scores:
    """Return flow's and rgb's scores, or probabilities, summed by their weights, float64."""
    flow, rgb = (softmax(data.flow), softmax(data.rgb)) if sums == "probabilities" else (data.flow, data.rgb)
    total: Scores = weights[0] * flow.astype("float64") + weights[1] * rgb.astype("float64")
    return total


class Oracle(Fusion):
    """For each clip the stream that is right, if either is: it reads the labels, and is a bound."""

    kind = Kind.BOUND
    needs = frozenset({"labels"})

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn nothing."""

    def apply(self, data: FusionData) -> Scores:
        """Return rgb's scores where only rgb is right, flow's elsewhere, float64 (N, classes)."""
        only_rgb = correct_predictions(data.rgb, data.labels) & ~correct_predictions(data.flow, data.labels)
        scores: Scores = np.where(only_rgb[:, None], data.rgb, data.flow).astype(np.float64)
        return scores
