"""Logistic regression: its penalty."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions.logistic import Logistic
from tests.make.fusion_data import clips


def test_logistic_regression_chooses_a_stronger_penalty_for_noise() -> None:
    data = clips(120)
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(
        data, flow_features=rng.normal(size=(120, 6)), rgb_features=rng.normal(size=(120, 6))
    )
    signal, nothing = Logistic(reads="features"), Logistic(reads="features")
    signal.fit(data, seed=0)
    nothing.fit(noise, seed=0)
    assert signal.model is not None
    assert nothing.model is not None
    assert nothing.model.penalty > signal.model.penalty
