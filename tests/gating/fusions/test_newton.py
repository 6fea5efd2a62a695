"""Newton's method: the minimum that L-BFGS finds, and the ones that are known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor

from gating.fusions.learned import minimise
from gating.fusions.newton import newton_fit


def _columns(clips: int, columns: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(clips, columns)))


@pytest.mark.parametrize(("outputs", "penalty"), [(2, 1e-3), (3, 1e-6), (3, 10.0)])
def test_it_finds_the_minimum_that_l_bfgs_finds(outputs: int, penalty: float) -> None:
    columns = _columns(60, 8)
    labels = (columns[:, :outputs] + 0.5 * _columns(60, 9)[:, 9 - outputs :]).argmax(dim=1)
    start = torch.zeros(9, outputs, dtype=torch.float64)
    found = newton_fit(columns, labels, start, penalty, F.cross_entropy, gradient=1e-9)
    other = start.clone().requires_grad_()

    def loss() -> Tensor:
        fit = F.cross_entropy(columns @ other[:-1] + other[-1], labels)
        return fit + penalty * other[:-1].square().sum()

    minimise([other], loss, gradient=1e-9)
    torch.testing.assert_close(found[:-1], other.detach()[:-1], rtol=1e-4, atol=1e-5)
    # Intercepts are given up to a sum that softmax takes away.
    own, others = (one - one.mean() for one in (found[-1], other.detach()[-1]))
    torch.testing.assert_close(own, others, rtol=1e-4, atol=1e-5)


def test_a_quadratic_loss_takes_one_step() -> None:
    columns = _columns(40, 3)
    targets = columns @ torch.tensor([[2.0], [0.0], [-1.0]], dtype=torch.float64) + 4
    start = torch.zeros(4, 1, dtype=torch.float64)
    calls = []

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        calls.append(1)
        return F.mse_loss(outputs, wanted)

    found = newton_fit(columns, targets, start, 1e-12, loss, gradient=1e-6)
    torch.testing.assert_close(found[:, 0], torch.tensor([2.0, 0.0, -1.0, 4.0], dtype=torch.float64))
    # Slopes, the value before and after the step, and the slopes that end it.
    assert len(calls) == 4


def test_clips_that_are_apart_do_not_make_steps_run_away() -> None:
    columns = torch.tensor([[-50.0], [-40.0], [40.0], [50.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    start = torch.tensor([[30.0, -30.0], [0.0, 0.0]], dtype=torch.float64)
    found = newton_fit(columns, labels, start, 1e-4, F.cross_entropy, gradient=1e-9)
    assert (found.isfinite()).all()
    assert ((columns @ found[:-1] + found[-1]).argmax(dim=1) == labels).all()
    assert found.abs().max() < 1
