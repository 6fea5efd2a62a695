"""Logistic regression: its penalty and its folds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.fusions.logistic import Logistic, fold_numbers
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
    assert signal.penalty is not None
    assert nothing.penalty is not None
    assert nothing.penalty > signal.penalty


def test_groups_stay_in_one_fold() -> None:
    data = clips(40)
    folds = fold_numbers(data, seed=0).reshape(-1, 4)
    assert (folds == folds[:, :1]).all()
    assert set(folds.flatten()) == {0, 1, 2, 3}
