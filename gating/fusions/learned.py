"""Learned weights, the same for every clip, and the optimisers of all learned fusions.

L-BFGS where the loss is convex, AdamW where not. All of it is float64 on the CPU: the same data and
seed give the same weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gating.config import FIXED_WEIGHTS
from gating.errors import NotFittedError
from gating.fusions.base import Fusion, FusionData, Kind, Scores

ITERATIONS = 200
# Keeps the weights of classes with few clips near the fixed ones.
PRIOR = 1e-2


@dataclasses.dataclass(kw_only=True, slots=True)
class LearnedWeights(Fusion):
    """A pair of weights by cross-entropy from TSN's start: for all classes, or for each."""

    kind = Kind.LEARNED

    per_class: bool
    weights: Tensor | None = None

    def fit(self, data: FusionData, *, seed: int) -> None:
        """Minimise CE + `PRIOR` * the mean squared distance from the fixed weights (convex)."""
        flow, rgb = _tensors(data)
        labels = torch.from_numpy(data.labels)
        start = torch.tensor(FIXED_WEIGHTS, dtype=torch.float64)[:, None]
        start = start.repeat(1, data.classes if self.per_class else 1)
        weights = start.clone().requires_grad_()

        def loss() -> Tensor:
            prior = (weights - start).square().mean()
            return F.cross_entropy(weights[0] * flow + weights[1] * rgb, labels) + PRIOR * prior

        minimise([weights], loss)
        self.weights = weights.detach()

    def apply(self, data: FusionData) -> Scores:
        """Return the weighted sum, float64 (N, classes)."""
        if self.weights is None:
            raise NotFittedError(self)
        flow, rgb = _tensors(data)
        total: Scores = (self.weights[0] * flow + self.weights[1] * rgb).numpy()
        return total


def _tensors(data: FusionData) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.flow).double(), torch.from_numpy(data.rgb).double()


@dataclasses.dataclass(frozen=True, slots=True)
class Standardizer:
    """Mean and std of columns; constant columns have an std of 1."""

    mean: Scores
    std: Scores

    @classmethod
    def of(cls, columns: Scores) -> Standardizer:
        """Measure columns (N, D)."""
        std = columns.std(axis=0)
        return cls(columns.mean(axis=0), np.where(std > 1e-12, std, 1.0))

    def __call__(self, columns: Scores) -> Tensor:
        """Return standardised columns, float64 (N, D)."""
        return torch.from_numpy((columns - self.mean) / self.std)


def minimise(parameters: Iterable[Tensor], loss: Callable[[], Tensor], *, gradient: float = 1e-7) -> None:
    """Minimise a smooth convex loss over parameters in place by L-BFGS, to a gradient of `gradient`."""
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=ITERATIONS,
        tolerance_grad=gradient,
        tolerance_change=gradient / 1000,
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
    """Fit a small net in place; `loss` returns a batch's loss from its clips' numbers."""
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
    """Build a net whose random start the seed decides, without use of torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return net().double()
