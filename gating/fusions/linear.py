"""Linear models on standardised columns, for the fusions that are logistic regressions.

The L2 penalty is chosen by cross-validation within the data of `fit`, groups kept together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gating.fusions.base import FusionData, Scores
from gating.fusions.learned import Standardizer, minimise
from gating.fusions.newton import MOST_WEIGHTS, newton_fit

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 4
GRADIENT = 1e-5
"""Scores are then within 1e-3 of those at the minimum: as good as the data can tell."""

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
    columns: Scores,
    targets: Tensor,
    folds: NDArray[np.int64],
    *,
    outputs: int,
    loss: Loss,
    penalties: Sequence[float] = PENALTIES,
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
    penalties
        To choose from.
    """
    standardizer = Standardizer.of(columns)
    standard = standardizer(columns)
    strengths = sorted(penalties, reverse=True)
    losses = _held_out_losses(standard, targets, folds, strengths, outputs, loss)
    best = int(np.argmin(losses))
    weights = _fits(standard, targets, strengths[: best + 1], outputs, loss)[best]
    return LinearModel(standardizer=standardizer, weights=weights, penalty=strengths[best])


def fold_numbers(data: FusionData, *, seed: int) -> NDArray[np.int64]:
    """Return each clip's fold, int64 (N,), in [0, FOLDS), by `divided_groups`."""
    groups = np.arange(len(data.labels)) if data.groups is None else data.groups
    return divided_groups(groups, seed=seed)


def divided_groups(groups: NDArray[np.generic], *, seed: int) -> NDArray[np.int64]:
    """Return a number in [0, FOLDS) for each of N clips: shuffled, and a group stays whole.

    A single group is divided.
    """
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        names = members = np.arange(len(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    numbers: NDArray[np.int64] = order[members] % FOLDS
    return numbers


def _fits(
    columns: Tensor, targets: Tensor, penalties: Sequence[float], outputs: int, loss: Loss
) -> list[Tensor]:
    """Return the weights of each penalty, which fall: a stronger one's are the start of the next.

    With more columns than clips the weights lie in the span of the clips, where there are fewer to find.
    """
    basis = _row_basis(columns) if len(columns) < columns.shape[1] else None
    inner = columns if basis is None else columns @ basis.T
    # The last row is the intercept, which no penalty draws to zero.
    weights = torch.zeros(inner.shape[1] + 1, outputs, dtype=torch.float64)
    found = []
    for penalty in penalties:
        weights = _fit(inner, targets, weights, penalty, loss)
        found.append(weights if basis is None else torch.cat([basis.T @ weights[:-1], weights[-1:]]))
    return found


def _row_basis(columns: Tensor) -> Tensor:
    """Return an orthonormal basis, float64 (r, D), of the span of rows (N, D), N < D."""
    values, vectors = torch.linalg.eigh(columns @ columns.T)
    kept = values > values[-1] * 1e-12
    basis: Tensor = (vectors[:, kept] / values[kept].sqrt()).T @ columns
    return basis


def _fit(columns: Tensor, targets: Tensor, start: Tensor, penalty: float, loss: Loss) -> Tensor:
    if start.numel() <= MOST_WEIGHTS:
        return newton_fit(columns, targets, start, penalty, loss, gradient=GRADIENT)
    weights = start.clone().requires_grad_()

    def penalised() -> Tensor:
        return loss(_outputs(columns, weights), targets) + penalty * weights[:-1].square().sum()

    minimise([weights], penalised, gradient=GRADIENT)
    return weights.detach()


def _outputs(columns: Tensor, weights: Tensor) -> Tensor:
    return columns @ weights[:-1] + weights[-1]


def _held_out_losses(
    columns: Tensor,
    targets: Tensor,
    folds: NDArray[np.int64],
    penalties: Sequence[float],
    outputs: int,
    loss: Loss,
) -> NDArray[np.float64]:
    """Return the summed loss of each penalty on clips that were left out."""
    totals = np.zeros(len(penalties))
    for fold in np.unique(folds):
        held = torch.from_numpy(folds == fold)
        if bool(held.all()):
            continue
        fits = _fits(columns[~held], targets[~held], penalties, outputs, loss)
        for k, weights in enumerate(fits):
            totals[k] += int(held.sum()) * float(loss(_outputs(columns[held], weights), targets[held]))
    return totals
