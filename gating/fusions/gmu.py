"""The gated multimodal unit on both streams' pooled features.

Source: Arevalo et al., arXiv 1702.01992, equations 1 to 4: h_i = tanh(W_i x_i) for each
modality, z = sigmoid(W_z [x_1, x_2]), h = z h_1 + (1 - z) h_2, and a linear classifier on h.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from gating.fusions.feature_net import FeatureNet

HIDDEN = 64


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
class Gmu(FeatureNet):
    """A gated multimodal unit."""

    hidden = HIDDEN

    def build(self, flow: int, rgb: int, classes: int) -> nn.Module:
        """Return a new unit."""
        return GatedMultimodalUnit(flow, rgb, classes)
