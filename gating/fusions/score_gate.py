"""A gate on scores alone: the strongest cheap baseline of the gating ConvNet.

A small net reads both streams' probabilities and their entropies and gives a pair of weights
for each clip. Whatever the gating ConvNet gains over it comes from the images.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gating.config import FIXED_WEIGHTS
from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores, both_zero, softmax
from gating.fusions.learned import Descent, Standardizer, descend, seeded

HIDDEN = 32
PRIOR = 0.1
SETTINGS = Descent()


@dataclasses.dataclass(kw_only=True, slots=True)
class ScoreGate(Fusion):
    """An MLP from probabilities and entropies to ReLU gates, with the gate's own start and prior."""

    kind = Kind.LEARNED

    standardizer: Standardizer | None = None
    net: nn.Module | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Minimise CE of the fused scores + `PRIOR` * squared distance from the fixed weights."""
        columns = _columns(data)
        self.standardizer = Standardizer.of(columns)
        inputs = self.standardizer(columns)
        net = self.net = seeded(lambda: _build(inputs.shape[1]), seed)
        start = torch.tensor(FIXED_WEIGHTS, dtype=torch.float64)
        labels = torch.from_numpy(data.labels)

        def loss(batch: NDArray[np.int64]) -> Tensor:
            raw = net(inputs[batch])
            fused = _fuse(F.relu(raw), data, batch)
            prior: Tensor = (raw - start).square().sum(dim=1).mean()
            return F.cross_entropy(fused, labels[batch]) + PRIOR * prior

        descend(net, loss, len(labels), seed=seed, settings=SETTINGS)

    def gates(self, data: FusionData) -> Scores:
        """Return the weights (flow, rgb) of each clip, float64 (N, 2), >= 0."""
        if self.standardizer is None or self.net is None:
            raise NotFittedError(self)
        with torch.no_grad():
            raw = self.net(self.standardizer(_columns(data)))
        gates: Scores = F.relu(raw).numpy()
        return gates

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes); fixed weights where both gates are zero."""
        gates = self.gates(data)
        gates = np.where(both_zero(gates)[:, None], FIXED_WEIGHTS, gates)
        scores: Scores = _fuse(torch.from_numpy(gates), data, np.arange(len(gates))).numpy()
        return scores


def _columns(data: FusionData) -> Scores:
    both = [softmax(data.flow), softmax(data.rgb)]
    entropies = [-(p * np.log(np.maximum(p, 1e-12))).sum(axis=1, keepdims=True) for p in both]
    return np.concatenate([*both, *entropies], axis=1)


def _build(inputs: int) -> nn.Module:
    last = nn.Linear(HIDDEN, 2)
    nn.init.normal_(last.weight, std=0.01)
    with torch.no_grad():
        last.bias.copy_(torch.tensor(FIXED_WEIGHTS))
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), last)


def _fuse(gates: Tensor, data: FusionData, batch: NDArray[np.int64]) -> Tensor:
    flow, rgb = torch.from_numpy(data.flow[batch]), torch.from_numpy(data.rgb[batch])
    return gates[:, :1] * flow + gates[:, 1:] * rgb
