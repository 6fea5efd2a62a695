"""Learned weights that are the same for every clip: one pair, or one pair for each class."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from gating.config import FIXED_WEIGHTS
from gating.fusions.base import FusionData, NotFittedError, Scores
from gating.fusions.fitting import minimise

# Keeps the weights of classes with few clips near the fixed ones.
PRIOR = 1e-2


@dataclasses.dataclass(kw_only=True, slots=True)
class LearnedWeights:
    """A pair of weights by cross-entropy from TSN's start: for all classes, or for each."""

    per_class: bool
    weights: Tensor | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Minimise CE + `PRIOR` * the mean squared distance from the fixed weights (convex)."""
        flow, rgb = _tensors(data)
        labels = torch.from_numpy(data.labels)
        start = torch.tensor(FIXED_WEIGHTS, dtype=torch.float64)[:, None]
        start = start.repeat(1, data.classes if self.per_class else 1)
        weights = start.clone().requires_grad_()

        def loss() -> Tensor:
            prior = (weights - start).square().mean()
            return F.cross_entropy(weights[0] * flow + weights[1] * rgb, labels) + PRIOR * prior

        minimise([weights], loss)
        self.weights = weights.detach()

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        if self.weights is None:
            raise NotFittedError(self)
        flow, rgb = _tensors(data)
        total: Scores = (self.weights[0] * flow + self.weights[1] * rgb).numpy()
        return total


def _tensors(data: FusionData) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.flow).double(), torch.from_numpy(data.rgb).double()
