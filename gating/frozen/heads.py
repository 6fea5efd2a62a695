"""A linear head on clips' features: multinomial logistic regression, its strength by cross-validation.

Columns are standardised on the clips of the fit, and the head returned is on features as they are. With
fewer clips than columns the solution lies in the span of the clips, so that it is looked for there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gating.fusions.learned import Standardizer
from gating.fusions.logistic import grouped_folds, row_basis

PENALTIES = tuple(10.0**step for step in range(-5, 1))
"""On the squared weights of columns that are standardised and divided by the root of their number."""
FOLDS = 4
_ITERATIONS = 40


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A fitted head.

    Attributes
    ----------
    weight, bias : Tensor
        float64 (C, P) and (C,), on features as they are.
    penalty : float
        Chosen of `PENALTIES`.
    """

    weight: Tensor
    bias: Tensor
    penalty: float

    def put_into(self, classifier: nn.Linear) -> None:
        """Set a classifier's weights to the head's."""
        with torch.no_grad():
            classifier.weight.copy_(self.weight)
            classifier.bias.copy_(self.bias)


def fit_head(features: Tensor, labels: Tensor, groups: Sequence[str], *, classes: int, seed: int) -> Head:
    """Fit a head; the penalty with the least log loss on left-out groups decides.

    Parameters
    ----------
    features
        (N, P).
    labels
        int64 (N,), in [0, classes).
    groups
        Of each clip: clips of one group are left out together. With a single group each clip is one.
    classes
        Their number, >= 2.
    seed
        Of the folds.
    """
    columns = features.double().numpy()
    penalty = _best_penalty(columns, labels, groups, classes=classes, seed=seed)
    weight, bias = _fit(columns, labels, [penalty], classes=classes)[0]
    return Head(weight=weight, bias=bias, penalty=penalty)


def _best_penalty(
    columns: np.ndarray, labels: Tensor, groups: Sequence[str], *, classes: int, seed: int
) -> float:
    losses = np.zeros(len(PENALTIES))
    for held in grouped_folds(groups, FOLDS, seed=seed):
        own = torch.from_numpy(~held)
        if not own.any() or len(set(labels[own].tolist())) < 2:
            continue
        fits = _fit(columns[~held], labels[own], PENALTIES, classes=classes)
        apart = torch.from_numpy(columns[held])
        for k, (weight, bias) in enumerate(fits):
            losses[k] += float(F.cross_entropy(apart @ weight.T + bias, labels[~own], reduction="sum"))
    return PENALTIES[int(np.argmin(losses))]


def _fit(
    columns: np.ndarray, labels: Tensor, penalties: Sequence[float], *, classes: int
) -> list[tuple[Tensor, Tensor]]:
    """Return a weight (C, P) and a bias (C,) for each penalty, the strongest solved first."""
    standardizer = Standardizer.of(columns)
    standard = standardizer(columns) / columns.shape[1] ** 0.5
    # The weights of least norm are combinations of the clips: in their own basis there are as many as clips.
    basis = row_basis(standard) if len(standard) < standard.shape[1] else None
    inner = standard if basis is None else standard @ basis.T
    weights = torch.zeros(inner.shape[1] + 1, classes, dtype=torch.float64)
    found: dict[float, Tensor] = {}
    for penalty in sorted(penalties, reverse=True):
        weights = _minimised(inner, labels, weights, penalty)
        found[penalty] = weights
    return [_on_plain_columns(found[one], basis, standardizer) for one in penalties]


def _minimised(columns: Tensor, labels: Tensor, start: Tensor, penalty: float) -> Tensor:
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = columns @ weights[:-1] + weights[-1]
        loss = F.cross_entropy(scores, labels) + penalty * weights[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call,unused-ignore]
    return weights.detach()


def _on_plain_columns(
    weights: Tensor, basis: Tensor | None, standardizer: Standardizer
) -> tuple[Tensor, Tensor]:
    inner, bias = weights[:-1], weights[-1]
    standard = inner if basis is None else basis.T @ inner
    plain = standard / torch.from_numpy(standardizer.std)[:, None] / standard.shape[0] ** 0.5
    return plain.T, bias - torch.from_numpy(standardizer.mean) @ plain
