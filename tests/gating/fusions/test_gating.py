"""The gate among the fusions: its own scores, and fixed weights where both gates are zero."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from flowkit.errors import InvalidParameterError
from gating.fusions.gating import Gating
from tests.make.scores import made_scores

CLASSES = ("up", "down", "still")


def test_the_gate_gives_its_own_scores_and_the_fixed_weights_where_both_gates_are_zero() -> None:
    data = made_scores([f"{k}" for k in range(4)], CLASSES).fusion_data()
    assert data.gates is not None
    data.gates[:2] = [[0.0, 0.0], [0.0, 2.0]]
    gate = Gating(fixed=(3.0, 1.0))
    weights = gate.clip_weights(data)
    assert weights is not None
    assert weights[:2].tolist() == [[3.0, 1.0], [0.0, 2.0]]
    assert gate.fell_back(data)[:2].tolist() == [True, False]
    assert gate.apply(data) is data.gated
    without = made_scores(["a", "b", "c"], CLASSES, gate=False).fusion_data()
    with pytest.raises(InvalidParameterError, match="trained gate's scores"):
        gate.apply(without)
