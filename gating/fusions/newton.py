"""Newton's method for linear models of few weights: a few exact steps where L-BFGS takes dozens of its own.

Source: Boyd & Vandenberghe, "Convex Optimization", 2004, algorithm 9.5: damped steps with backtracking.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST_WEIGHTS = 300
"""A step solves for all weights at once, and a step costs more by the square of the outputs."""
STEPS = 50
_RIDGE = 1e-10
"""Of the mean curvature. A softmax does not change when all its scores rise: the intercepts have one
direction without curvature."""
_DECREASE = 1e-4
_SMALLEST_STEP = 1e-6

Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs (N, K) and targets (N, ...) to a scalar, the mean of the losses of N clips; convex."""


def newton_fit(
    columns: Tensor, targets: Tensor, start: Tensor, penalty: float, loss: Loss, *, gradient: float
) -> Tensor:
    """Minimise loss + penalty * the sum of squared weights; return them, float64 (D + 1, K).

    Parameters
    ----------
    columns
        float64 (N, D).
    targets
        (N, ...), as `loss` reads them.
    start
        float64 (D + 1, K); the last row is the intercept, which has no penalty.
    penalty
        > 0.
    loss
        Twice differentiable in the outputs. A clip's loss depends on its own outputs alone.
    gradient
        The largest component at which to stop.
    """
    rows = torch.cat([columns, columns.new_ones(len(columns), 1)], dim=1)
    drawn = torch.full_like(start, penalty)
    drawn[-1] = 0

    def value(weights: Tensor) -> Tensor:
        return loss(rows @ weights, targets) + (drawn * weights.square()).sum()

    weights = start.clone()
    for _ in range(STEPS):
        slopes, curvatures = _derivatives(rows @ weights, targets, loss)
        slope = rows.T @ slopes + 2 * drawn * weights
        if slope.abs().max() <= gradient:
            break
        step = _solved(_curvature(rows, curvatures, drawn), slope)
        length = _backtracked(value, weights, step, (slope * step).sum())
        if length < _SMALLEST_STEP:
            break
        weights = weights - length * step
    return weights


def _derivatives(outputs: Tensor, targets: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the loss's slopes (N, K) and each clip's curvatures (N, K, K) in the outputs."""
    outputs = outputs.detach().requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(loss(outputs, targets), outputs, create_graph=True)
        rows = [
            torch.autograd.grad(one.sum(), outputs, retain_graph=True, materialize_grads=True)[0]
            for one in slopes.unbind(dim=1)
        ]
    return slopes.detach(), torch.stack(rows, dim=1)


def _curvature(rows: Tensor, curvatures: Tensor, drawn: Tensor) -> Tensor:
    """Return the second derivatives in the weights of all outputs, one output after the other."""
    outputs = curvatures.shape[1]
    blocks = [[rows.T @ (curvatures[:, k, j, None] * rows) for j in range(outputs)] for k in range(outputs)]
    total = torch.cat([torch.cat(line, dim=1) for line in blocks])
    total.diagonal().add_(2 * drawn.T.flatten())
    total.diagonal().add_(_RIDGE * total.diagonal().mean())
    return total


def _solved(curvature: Tensor, slope: Tensor) -> Tensor:
    """Return Newton's step, of the slope's shape (D + 1, K)."""
    step: Tensor = torch.linalg.solve(curvature, slope.T.flatten()).reshape(slope.T.shape).T
    return step


def _backtracked(value: Callable[[Tensor], Tensor], weights: Tensor, step: Tensor, slope: Tensor) -> float:
    """Return the first of 1, 1/2, 1/4 ... that lowers the value enough."""
    length, least = 1.0, value(weights)
    while length >= _SMALLEST_STEP and value(weights - length * step) > least - _DECREASE * length * slope:
        length /= 2
    return length
