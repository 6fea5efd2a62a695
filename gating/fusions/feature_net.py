"""Small nets on both streams' pooled features: their fit, which is the same for each."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores
from gating.fusions.learned import Descent, Standardizer, descend, seeded

DROPOUT = 0.5
SETTINGS = Descent()


@dataclasses.dataclass(kw_only=True, slots=True)
class FeatureNet(Fusion):
    """A net fitted by AdamW on standardised features, with dropout on its hidden layer.

    The net is called with flow's and rgb's features, float64 (N, D1) and (N, D2), and with the factors (N,
    hidden) of its hidden layer, or None; it returns scores (N, classes).
    """

    kind = Kind.LEARNED
    needs = frozenset({"features"})

    standardizers: tuple[Standardizer, Standardizer] | None = None
    net: nn.Module | None = None

    @property
    @abc.abstractmethod
    def hidden(self) -> int:
        """Units of the hidden layer, on which dropout acts."""

    @abc.abstractmethod
    def build(self, flow: int, rgb: int, classes: int) -> nn.Module:
        """Return a new net for so many features and classes."""

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Minimise the cross-entropy."""
        flow, rgb = data.both_features()
        self.standardizers = Standardizer.of(flow), Standardizer.of(rgb)
        inputs = self.standardizers[0](flow), self.standardizers[1](rgb)
        labels = torch.from_numpy(data.labels)
        net = self.net = seeded(lambda: self.build(flow.shape[1], rgb.shape[1], data.classes), seed)
        # torch's own dropout would draw from the global generator.
        rng = torch.Generator().manual_seed(seed)

        def loss(batch: NDArray[np.int64]) -> Tensor:
            drawn = torch.rand(len(batch), self.hidden, generator=rng, dtype=torch.float64)
            kept = (drawn >= DROPOUT) / (1 - DROPOUT)
            return F.cross_entropy(net(inputs[0][batch], inputs[1][batch], kept), labels[batch])

        descend(net, loss, len(labels), seed=seed, settings=SETTINGS)

    def apply(self, data: FusionData) -> Scores:
        """Return scores, float64 (N, classes)."""
        if self.standardizers is None or self.net is None:
            raise NotFittedError(self)
        flow, rgb = data.both_features()
        with torch.no_grad():
            scores: Scores = self.net(self.standardizers[0](flow), self.standardizers[1](rgb)).numpy()
        return scores
