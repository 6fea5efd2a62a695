"""Linear models: their folds, their scale, and an optimum that is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from gating.fusions.linear import PENALTIES, fit_linear, fold_numbers
from tests.make.fusion_data import clips


def test_groups_stay_in_one_fold() -> None:
    data = clips(40)
    folds = fold_numbers(data, seed=0).reshape(-1, 4)
    assert (folds == folds[:, :1]).all()
    assert set(folds.flatten()) == {0, 1, 2, 3}


def test_a_linear_map_is_found_whatever_the_scale_of_the_columns() -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(80, 3)) * [1e-3, 1.0, 1e3]
    targets = torch.from_numpy(columns @ [[2e3], [-1.0], [1e-3]] + 0.5)
    model = fit_linear(columns, targets, np.arange(80) % 4, outputs=1, loss=F.mse_loss)
    assert model.penalty == min(PENALTIES)
    np.testing.assert_allclose(model(columns), targets.numpy(), atol=0.01)


def test_no_penalty_draws_the_intercept_to_zero() -> None:
    columns = np.random.default_rng(0).normal(size=(80, 3))
    targets = torch.full((80, 1), 7.0, dtype=torch.float64)
    model = fit_linear(columns, targets, np.arange(80) % 4, outputs=1, loss=F.mse_loss)
    np.testing.assert_allclose(model(columns), 7.0, atol=1e-4)
