"""Means over clips, the gates' summary, and the time of an epoch."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch

from gating.distributed import ProcessGroup
from gating.metrics import EpochMetrics, RunningMetrics, summarise_gates
from gating.training.tasks import TaskOutput

ALONE = ProcessGroup(torch.device("cpu"))


def output(loss: float, *best: int, gates: bool = False) -> TaskOutput:
    """Clips whose highest score is of these classes, of three."""
    return TaskOutput(
        loss=torch.tensor(loss, requires_grad=True),
        scores=torch.eye(3)[list(best)],
        parts={"prior": torch.tensor(2 * loss)},
        gates=torch.tensor([[0.0, 1.0]]).expand(len(best), 2) if gates else None,
    )


def updated(metrics: RunningMetrics) -> RunningMetrics:
    metrics.update(output(1.0, 0, 1, 2, gates=True), torch.tensor([0, 1, 0]))
    metrics.update(output(3.0, 1, gates=True), torch.tensor([1]))
    return metrics


def test_means_weigh_batches_by_their_clips() -> None:
    means = updated(RunningMetrics()).means()
    assert list(means) == ["loss", "top1", "prior", "gates"]
    assert (means["loss"], means["top1"], means["prior"]) == (1.5, 0.75, 3.0)
    gates = means["gates"]
    assert isinstance(gates, dict)
    assert (gates["zero_flow"], gates["mean_rgb"]) == (1.0, 1.0)


def test_means_over_all_processes_are_of_top1_loss_and_gates() -> None:
    means = updated(RunningMetrics()).means_over_all(ALONE)
    assert list(means) == ["top1", "loss", "gates"]
    assert (means["top1"], means["loss"]) == (0.75, 1.5)


def test_sums_do_not_lose_what_is_small_beside_them() -> None:
    metrics = RunningMetrics()
    metrics.update(output(2.0**24, 0), torch.tensor([0]))
    for _ in range(4):
        metrics.update(output(1.0, 0), torch.tensor([0]))
    assert metrics.means()["loss"] == (2.0**24 + 4) / 5  # float32 would stay at 2 ** 24


def test_an_epoch_without_a_clip_has_no_means() -> None:
    assert list(EpochMetrics().summary()) == ["clips_per_second", "waiting"]


def test_batches_come_through_and_time_is_counted() -> None:
    metrics = EpochMetrics()
    assert list(metrics.timed(iter([1, 2, 3]))) == [1, 2, 3]
    updated(metrics)
    summary = metrics.summary()
    clips_per_second, waiting = summary["clips_per_second"], summary["waiting"]
    assert isinstance(clips_per_second, float)
    assert isinstance(waiting, float)
    assert clips_per_second > 0
    assert 0 <= waiting <= 1


def test_the_summary_separates_a_dead_branch_from_a_dead_gate() -> None:
    summary = summarise_gates(torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 0.0], [3.0, 1.0]]))
    assert (summary.zero_flow, summary.zero_rgb, summary.zero_both) == (0.75, 0.25, 0.25)
    assert (summary.mean_flow, summary.mean_rgb, summary.mean_sum) == (0.75, 1.0, 1.75)
    assert summary.ratio == 0.0
    assert math.isnan(summarise_gates(torch.zeros(2, 2)).ratio)
