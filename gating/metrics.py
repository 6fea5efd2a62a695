"""Metrics of training and validation: means over clips, top-1, the gates' summary, clips per second.

Sums are float64 tensors on the device, and `update` waits for nothing, so that a GPU has work queued
while the host prepares the next batch. Reading waits for the device: the loop reads at logged steps
alone. In float64 the mean of an epoch rounds below 1e-12, whatever the number of micro-batches.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor

from gating.models.gate import FLOW, RGB

if TYPE_CHECKING:
    from gating.distributed import ProcessGroup
    from gating.training.tasks import TaskOutput

Item = TypeVar("Item")

Numbers = dict[str, float | dict[str, float]]
"""Means by name; under "gates" those of a `GateSummary`."""


class ValidationMeans(TypedDict):
    """Means over the validation clips of all processes: top-1, [0, 1], loss, and the gates' summary."""

    top1: float
    loss: float
    gates: NotRequired[dict[str, float]]


class RunningMetrics:
    """Means of the loss, its parts and top-1 over clips, and the clips' gates."""

    def __init__(self) -> None:
        self.clips = 0
        self._sums: dict[str, Tensor] = {}
        self._gates: list[Tensor] = []

    def update(self, output: TaskOutput, labels: Tensor) -> None:
        """Add a batch, without waiting for the device."""
        clips = len(labels)
        self.clips += clips
        correct = (output.scores.argmax(dim=1) == labels).sum().double()
        means = {name: value.double() * clips for name, value in output.parts.items()}
        for name, value in {"loss": output.loss.detach().double() * clips, "top1": correct, **means}.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if output.gates is not None:
            self._gates.append(output.gates.reshape(-1, 2))

    def means(self) -> Numbers:
        """Return means over this process's clips so far, and the gates' summary; empty without clips."""
        found: Numbers = {name: total / self.clips for name, total in self._totals().items()}
        if self._gates:
            found["gates"] = dataclasses.asdict(summarise_gates(self._host_gates()))
        return found

    def means_over_all(self, process_group: ProcessGroup) -> ValidationMeans:
        """Return top-1, loss and the gates' summary over the clips of all processes."""
        totals = self._totals()
        own = [float(self.clips), totals.get("top1", 0.0), totals.get("loss", 0.0)]
        clips, correct, loss = process_group.all_sum(own)
        found = ValidationMeans(top1=correct / clips, loss=loss / clips)
        if gates := [one for one in process_group.all_gather(self._host_gates()) if len(one)]:
            found["gates"] = dataclasses.asdict(summarise_gates(torch.cat(gates)))
        return found

    def _totals(self) -> dict[str, float]:
        if not self._sums:
            return {}
        return dict(zip(self._sums, torch.stack(list(self._sums.values())).tolist(), strict=True))

    def _host_gates(self) -> Tensor:
        return torch.cat(self._gates).cpu() if self._gates else torch.empty(0, 2)


class EpochMetrics(RunningMetrics):
    """Metrics of an epoch's training, its clips per second, and the time spent waiting for data."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._waited = 0.0

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield batches, and add up the time of waiting for each."""
        left = iter(batches)
        while True:
            before = time.monotonic()
            batch = next(left, None)
            self._waited += time.monotonic() - before
            if batch is None:
                return
            yield batch

    def summary(self) -> Numbers:
        """Return means so far, clips per second, and the fraction of time spent waiting for data."""
        means = self.means()
        # Read after the sums: they wait for the work that is still queued on the device.
        seconds = time.monotonic() - self._started
        return {**means, "clips_per_second": self.clips / seconds, "waiting": self._waited / seconds}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GateSummary:
    """Zeros, means and ratio of the gates of a set of clips.

    Attributes
    ----------
    zero_flow, zero_rgb, zero_both : float
        Fractions of gates that are zero, [0, 1]: a branch can die while the other lives.
    mean_flow, mean_rgb, mean_sum : float
        Means; a sum far above the fixed weights' is a sign of overfitted streams.
    ratio : float
        Median of flow / rgb over the gates where rgb is not zero; NaN where none is.
    """

    zero_flow: float
    zero_rgb: float
    zero_both: float
    mean_flow: float
    mean_rgb: float
    mean_sum: float
    ratio: float


def summarise_gates(gates: Tensor) -> GateSummary:
    """Return the summary of gates (..., 2), before any fallback."""
    flat = gates.detach().reshape(-1, 2).double()
    zero = flat <= 0
    alive = ~zero[:, RGB]
    ratios = flat[alive, FLOW] / flat[alive, RGB]
    return GateSummary(
        zero_flow=float(zero[:, FLOW].double().mean()),
        zero_rgb=float(zero[:, RGB].double().mean()),
        zero_both=float(zero.all(dim=1).double().mean()),
        mean_flow=float(flat[:, FLOW].mean()),
        mean_rgb=float(flat[:, RGB].mean()),
        mean_sum=float(flat.sum(dim=1).mean()),
        ratio=float(ratios.median()) if len(ratios) else math.nan,
    )
