"""Fusions that learn nothing: one stream alone, or fixed weights, on scores or probabilities."""

from __future__ import annotations

import dataclasses

from gating.config import FIXED_WEIGHTS
from gating.fusions.base import FusionData, Scores, softmax


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FixedWeights:
    """`flow` times flow's scores plus `rgb` times rgb's; 0 and 1 take one stream alone.

    With `probabilities`, each stream's softmax in place of its scores.
    """

    flow: float
    rgb: float
    probabilities: bool = False

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Learn nothing."""

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        return weighted_sum(data, (self.flow, self.rgb), probabilities=self.probabilities)


def weighted_sum(data: FusionData, weights: tuple[float, float], *, probabilities: bool) -> Scores:
    """Return flow's and rgb's scores, or probabilities, summed by their weights, float64."""
    flow, rgb = (softmax(data.flow), softmax(data.rgb)) if probabilities else (data.flow, data.rgb)
    total: Scores = weights[0] * flow.astype("float64") + weights[1] * rgb.astype("float64")
    return total


def tsn_weights(*, probabilities: bool = False) -> FixedWeights:
    """Return TSN's flow 1.5 : rgb 1. Source: TSN's README, on scores before softmax."""
    flow, rgb = FIXED_WEIGHTS
    return FixedWeights(flow=flow, rgb=rgb, probabilities=probabilities)
