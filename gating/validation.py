"""How good a task is on the validation clips: what picks the best epoch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from gating.batches import Batches
from gating.models.gate import summarise
from gating.precision import autocast
from gating.tasks import Task, TaskOutput


@torch.inference_mode()
def validate(
    task: Task, batches: Batches, ids: Sequence[str], *, precision: torch.dtype | None
) -> dict[str, Any]:
    """Return top-1 and loss, and what the gates look like, over all processes; one centre crop."""
    task.eval()
    place, sums, gates = batches.place, [0.0, 0.0, 0.0], []
    for (batch,) in batches.testing(ids, task.modalities, segments=batches.config.segments):
        with autocast(place.device, precision):
            output: TaskOutput = task(batch)
        correct = float((output.scores.argmax(dim=1) == batch.labels).sum())
        sums = [
            a + b
            for a, b in zip(sums, (len(batch.ids), correct, float(output.loss) * len(batch.ids)), strict=True)
        ]
        if output.gates is not None:
            gates.append(output.gates.reshape(-1, 2).cpu())
    clips, correct, loss = place.summed(sums)
    found: dict[str, Any] = {"top1": correct / clips, "loss": loss / clips}
    everywhere = list(itertools.chain.from_iterable(place.gathered(gates)))
    if everywhere:
        found["gates"] = dataclasses.asdict(summarise(torch.cat(everywhere)))
    return found
