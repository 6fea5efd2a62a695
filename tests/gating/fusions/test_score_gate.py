"""The gate on scores: it leaves a flat stream."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions import FusionData
from gating.fusions.score_gate import ScoreGate
from tests.make.fusion_data import CLASSES


def test_score_gate_learns_to_leave_a_flat_stream() -> None:
    """Each clip has one flat stream, which its entropy shows."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=400)
    truth = 3 * np.eye(CLASSES)[labels] + rng.normal(size=(400, CLASSES))
    flat = 0.3 * rng.normal(size=(400, CLASSES))
    flow_flat = (np.arange(400) % 2 == 0)[:, None]
    data = FusionData(
        flow=np.where(flow_flat, flat, truth), rgb=np.where(flow_flat, truth, flat), labels=labels
    )
    gate = ScoreGate()
    gate.fit(data, seed=0)
    weights = gate.gates(data)
    assert (weights >= 0).all()
    fraction = weights[:, 0] / weights.sum(axis=1)
    assert fraction[flow_flat[:, 0]].mean() < fraction[~flow_flat[:, 0]].mean()
