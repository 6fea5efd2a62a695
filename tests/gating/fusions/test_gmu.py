"""The gated multimodal unit, against its equations."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from gating.fusions.gmu import HIDDEN, GatedMultimodalUnit
from tests.make.fusion_data import CLASSES


def test_scores_are_those_of_the_papers_equations() -> None:
    unit = GatedMultimodalUnit(5, 4, CLASSES).double()
    rng = torch.Generator().manual_seed(0)
    flow, rgb = (torch.randn(3, size, generator=rng, dtype=torch.float64) for size in (5, 4))
    h_flow = torch.tanh(flow @ unit.flow.weight.T + unit.flow.bias)
    h_rgb = torch.tanh(rgb @ unit.rgb.weight.T + unit.rgb.bias)
    z = torch.sigmoid(torch.cat([flow, rgb], dim=1) @ unit.gate.weight.T)
    hidden = z * h_flow + (1 - z) * h_rgb
    assert hidden.shape == (3, HIDDEN)
    torch.testing.assert_close(unit(flow, rgb), hidden @ unit.classifier.weight.T + unit.classifier.bias)


def test_dropped_units_do_not_count() -> None:
    unit = GatedMultimodalUnit(5, 4, CLASSES)
    scores = unit(torch.ones(1, 5), torch.ones(1, 4), torch.zeros(1, HIDDEN))
    assert torch.equal(scores[0], unit.classifier.bias)
