"""Linear models on standardised columns, for the fusions that are logistic regressions.

The L2 penalty is chosen by cross-validation within the data of `fit`, groups kept together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gating.fusions.base import FusionData, Scores
from gating.fusions.learned import Standardizer, minimise

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 4

Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs (N, outputs) and targets (N, ...) to their mean loss, a scalar; convex in the outputs."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LinearModel:
    """A fitted model.

    Attributes
    ----------
    standardizer : Standardizer
        Of the columns.
    weights : Tensor
        float64 (columns + 1, outputs); the last row is the intercept.
    penalty : float
        The one that cross-validation chose.
    """

    standardizer: Standardizer
    weights: Tensor
    penalty: float

    def __call__(self, columns: Scores) -> Scores:
        """Return outputs, float64 (N, outputs), of columns (N, D)."""
        outputs: Scores = _outputs(self.standardizer(columns), self.weights).numpy()
        return outputs


def fit_linear(
    columns: Scores, targets: Tensor, folds: NDArray[np.int64], *, outputs: int, loss: Loss
) -> LinearModel:
    """Choose the penalty by cross-validation, then fit all clips.

    Parameters
    ----------
    columns
        (N, D), of any scale.
    targets
        (N, ...), as `loss` reads them.
    folds
        (N,), of `fold_numbers`.
    outputs
        Number of them.
    loss
        Mean loss; the penalty times the sum of squared weights is added to it.
    """
    standardizer = Standardizer.of(columns)
    standard = standardizer(columns)
    losses = [_held_out_loss(standard, targets, folds, penalty, outputs, loss) for penalty in PENALTIES]
    penalty = PENALTIES[int(np.argmin(losses))]
    return LinearModel(
        standardizer=standardizer, weights=_fit(standard, targets, penalty, outputs, loss), penalty=penalty
    )


def fold_numbers(data: FusionData, *, seed: int) -> NDArray[np.int64]:
    """Return each clip's fold, int64 (N,), in [0, FOLDS): shuffled, and a group stays whole."""
    groups = np.arange(len(data.labels)) if data.groups is None else data.groups
    names, members = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return order[members] % FOLDS


def _fit(columns: Tensor, targets: Tensor, penalty: float, outputs: int, loss: Loss) -> Tensor:
    # The last row is the intercept, which no penalty draws to zero.
    weights = torch.zeros(columns.shape[1] + 1, outputs, dtype=torch.float64, requires_grad=True)

    def penalised() -> Tensor:
        return loss(_outputs(columns, weights), targets) + penalty * weights[:-1].square().sum()

    minimise([weights], penalised)
    return weights.detach()


def _outputs(columns: Tensor, weights: Tensor) -> Tensor:
    return columns @ weights[:-1] + weights[-1]


def _held_out_loss(
    columns: Tensor, targets: Tensor, folds: NDArray[np.int64], penalty: float, outputs: int, loss: Loss
) -> float:
    total = 0.0
    for fold in np.unique(folds):
        held = torch.from_numpy(folds == fold)
        if bool(held.all()):
            continue
        weights = _fit(columns[~held], targets[~held], penalty, outputs, loss)
        total += int(held.sum()) * float(loss(_outputs(columns[held], weights), targets[held]))
    return total
