"""The gated multimodal unit on both streams' pooled features.

Source: Arevalo et al., arXiv 1702.01992, equations 1 to 4: h_i = tanh(W_i x_i) for each
modality, z = sigmoid(W_z [x_1, x_2]), h = z h_1 + (1 - z) h_2, and a linear classifier on h.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores
from gating.fusions.learned import Descent, Standardizer, descend, seeded

HIDDEN = 64
DROPOUT = 0.5
SETTINGS = Descent()


class GatedMultimodalUnit(nn.Module):
    """The unit and its classifier; features (N, D1) and (N, D2) to scores (N, classes)."""

    def __init__(self, flow: int, rgb: int, classes: int) -> None:
        super().__init__()
        self.flow = nn.Linear(flow, HIDDEN)
        self.rgb = nn.Linear(rgb, HIDDEN)
        self.gate = nn.Linear(flow + rgb, HIDDEN, bias=False)
        self.classifier = nn.Linear(HIDDEN, classes)

    def forward(self, flow: Tensor, rgb: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return scores; `kept` multiplies the hidden layer (dropout, drawn by the caller)."""
        fraction = torch.sigmoid(self.gate(torch.cat([flow, rgb], dim=1)))
        hidden = fraction * torch.tanh(self.flow(flow)) + (1 - fraction) * torch.tanh(self.rgb(rgb))
        scores: Tensor = self.classifier(hidden if kept is None else hidden * kept)
        return scores


@dataclasses.dataclass(kw_only=True, slots=True)
class Gmu(Fusion):
    """A gated multimodal unit fitted by AdamW on standardised features."""

    kind = Kind.LEARNED
    needs = frozenset({"features"})

    standardizers: tuple[Standardizer, Standardizer] | None = None
    net: nn.Module | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Minimise the cross-entropy, with dropout on the hidden layer."""
        flow, rgb = data.both_features()
        self.standardizers = Standardizer.of(flow), Standardizer.of(rgb)
        inputs = self.standardizers[0](flow), self.standardizers[1](rgb)
        labels = torch.from_numpy(data.labels)
        net = self.net = seeded(lambda: GatedMultimodalUnit(flow.shape[1], rgb.shape[1], data.classes), seed)
        # torch's own dropout would draw from the global generator.
        rng = torch.Generator().manual_seed(seed)

        def loss(batch: NDArray[np.int64]) -> Tensor:
            drawn = torch.rand(len(batch), HIDDEN, generator=rng, dtype=torch.float64)
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
