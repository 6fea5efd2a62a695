"""An epoch's means and rates: clips, losses, gates and seconds, those spent waiting for data apart."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import torch

from gating.models.gate import summarise
from gating.tasks import TaskOutput


class EpochClock:
    """Counts what an epoch trained on so far."""

    def __init__(self) -> None:
        self.started = self._saved = time.monotonic()
        self.waited = 0.0
        self.clips = 0
        self._sums: dict[str, float] = {}
        self._gates: list[torch.Tensor] = []

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches, and count how long each was waited for."""
        while True:
            before = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - before
            if batch is None:
                return
            yield batch

    def count(self, output: TaskOutput, labels: torch.Tensor) -> None:
        """Count a micro-batch."""
        clips = len(labels)
        self.clips += clips
        correct = (output.scores.argmax(dim=1) == labels).float().mean()
        values = {"loss": output.loss.detach(), "top1": correct, **output.parts}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * clips
        if output.gates is not None:
            self._gates.append(output.gates.reshape(-1, 2).cpu())

    def note_saved(self) -> None:
        """Note that a checkpoint was written."""
        self._saved = time.monotonic()

    def since_saved(self) -> float:
        """Return seconds since the last checkpoint."""
        return time.monotonic() - self._saved

    def summary(self) -> dict[str, Any]:
        """Return means over the clips so far, clips per second, and the share of time spent waiting."""
        seconds = time.monotonic() - self.started
        means: dict[str, Any] = {name: total / max(1, self.clips) for name, total in self._sums.items()}
        if self._gates:
            means["gates"] = dataclasses.asdict(summarise(torch.cat(self._gates)))
        return {**means, "clips_per_second": self.clips / seconds, "waiting": self.waited / seconds}
