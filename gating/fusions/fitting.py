"""How the learned fusions are fitted: by L-BFGS where the loss is convex, by AdamW where not.

All of it is float64 on the CPU: the same data and seed give the same weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gating.fusions.base import Scores

ITERATIONS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Standardizer:
    """Mean and deviation of columns; constant columns keep a deviation of 1."""

    mean: Scores
    deviation: Scores

    @classmethod
    def of(cls, columns: Scores) -> Standardizer:
        """Measure columns (N, D)."""
        deviation = columns.std(axis=0)
        return cls(columns.mean(axis=0), np.where(deviation > 1e-12, deviation, 1.0))

    def __call__(self, columns: Scores) -> Tensor:
        """Return standardised columns, float64 (N, D)."""
        return torch.from_numpy((columns - self.mean) / self.deviation)


def minimise(parameters: Iterable[Tensor], loss: Callable[[], Tensor]) -> None:
    """Minimise a smooth convex loss over parameters in place by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=ITERATIONS,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call,unused-ignore]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call,unused-ignore]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Descent:
    """Settings of the small nets: AdamW with a cosine to zero, shuffled batches."""

    epochs: int = 60
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05


def descend(
    net: nn.Module,
    loss: Callable[[NDArray[np.int64]], Tensor],
    clips: int,
    *,
    seed: int,
    settings: Descent,
) -> None:
    """Fit a small net in place; `loss` gives a batch's loss by its clips' numbers."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    rng = np.random.default_rng(seed)
    net.train()
    for _ in range(settings.epochs):
        for batch in _batches(rng.permutation(clips), settings.batch):
            optimizer.zero_grad()
            loss(batch).backward()  # type: ignore[no-untyped-call,unused-ignore]
            optimizer.step()
        schedule.step()
    net.eval()


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, len(order), size):
        yield order[first : first + size]


def seeded(net: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a net whose random start the seed decides, leaving torch's own generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return net().double()
