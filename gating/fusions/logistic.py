"""Logistic regression on both streams' scores ("stack") or pooled features ("features").

The L2 penalty is chosen by cross-validation within the data of `fit`, groups kept together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Need, Scores
from gating.fusions.learned import Standardizer, minimise

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
FOLDS = 4


@dataclasses.dataclass(kw_only=True, slots=True)
class Logistic(Fusion):
    """Multinomial logistic regression on standardised columns of both streams."""

    kind = Kind.LEARNED

    reads: Literal["scores", "features"]
    standardizer: Standardizer | None = None
    weights: Tensor | None = None
    penalty: float | None = None

    @property
    def needs(self) -> Set[Need]:
        """Features, where it reads them."""
        return frozenset({"features"}) if self.reads == "features" else frozenset()

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Choose the penalty by cross-validation, then fit all of the data."""
        columns = self._columns(data)
        self.standardizer = Standardizer.of(columns)
        standard = self.standardizer(columns)
        labels = torch.from_numpy(data.labels)
        folds = fold_numbers(data, seed=seed)
        losses = [
            _held_out_loss(standard, labels, folds, penalty=penalty, classes=data.classes)
            for penalty in PENALTIES
        ]
        self.penalty = PENALTIES[int(np.argmin(losses))]
        self.weights = _fit(standard, labels, self.penalty, data.classes)

    def apply(self, data: FusionData) -> Scores:
        """Return log-odds, float64 (N, classes)."""
        if self.standardizer is None or self.weights is None:
            raise NotFittedError(self)
        scores: Scores = _scores(self.standardizer(self._columns(data)), self.weights).numpy()
        return scores

    def _columns(self, data: FusionData) -> Scores:
        if self.reads == "scores":
            return data.both_scores()
        return np.concatenate(data.both_features(), axis=1)


def fold_numbers(data: FusionData, *, seed: int) -> NDArray[np.int64]:
    """Return each clip's fold, int64 (N,), in [0, FOLDS): shuffled, and a group stays whole."""
    groups = np.arange(len(data.labels)) if data.groups is None else data.groups
    return _numbers(groups, FOLDS, seed=seed)


def grouped_folds(groups: Sequence[str], count: int, *, seed: int) -> list[NDArray[np.bool_]]:
    """Return a mask (N,) of the clips of each fold; a single group is divided."""
    names = np.array(groups) if len(set(groups)) > 1 else np.arange(len(groups))
    numbers = _numbers(names, count, seed=seed)
    return [numbers == fold for fold in np.unique(numbers)]


def _numbers(groups: NDArray[np.generic], count: int, *, seed: int) -> NDArray[np.int64]:
    names, members = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    numbers: NDArray[np.int64] = order[members] % count
    return numbers


def _fit(columns: Tensor, labels: Tensor, penalty: float, classes: int) -> Tensor:
    basis = row_basis(columns) if columns.shape[0] < columns.shape[1] else None
    inner = columns if basis is None else columns @ basis.T
    # The last row is the intercept, which no penalty draws to zero.
    weights = torch.zeros(inner.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return F.cross_entropy(_scores(inner, weights), labels) + penalty * weights[:-1].square().sum()

    minimise([weights], loss)
    found = weights.detach()
    return found if basis is None else torch.cat([basis.T @ found[:-1], found[-1:]])


def row_basis(columns: Tensor) -> Tensor:
    """Return an orthonormal basis, float64 (r, P), of the span of rows (N, P), N < P.

    Weights with a penalty on their squares lie in it: there are N to find instead of P.
    """
    values, vectors = torch.linalg.eigh(columns @ columns.T)
    kept = values > values[-1] * 1e-12
    basis: Tensor = (vectors[:, kept] / values[kept].sqrt()).T @ columns
    return basis


def _scores(columns: Tensor, weights: Tensor) -> Tensor:
    return columns @ weights[:-1] + weights[-1]


def _held_out_loss(
    columns: Tensor, labels: Tensor, folds: NDArray[np.int64], *, penalty: float, classes: int
) -> float:
    total = 0.0
    for fold in np.unique(folds):
        held = torch.from_numpy(folds == fold)
        if bool(held.all()):
            continue
        weights = _fit(columns[~held], labels[~held], penalty, classes)
        total += float(F.cross_entropy(_scores(columns[held], weights), labels[held], reduction="sum"))
    return total
