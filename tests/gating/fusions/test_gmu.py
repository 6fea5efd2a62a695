"""The gated multimodal unit, against its equations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gating.fusions.gmu import HIDDEN, GatedMultimodalUnit, Gmu
from tests.make.fusion_data import CLASSES, clips


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


def test_features_of_any_scale_give_the_same_scores() -> None:
    """Features are standardised, each stream's by itself."""
    data = clips(60)
    assert data.flow_features is not None
    scores = []
    for scale in (1.0, 1000.0):
        fusion, scaled = Gmu(), dataclasses.replace(data, flow_features=scale * data.flow_features)
        fusion.fit(scaled, seed=0)
        scores.append(fusion.apply(scaled))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6, atol=1e-6)
