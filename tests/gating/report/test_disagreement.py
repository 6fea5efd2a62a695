"""Where the streams disagree: the bound of flow's fraction, the gate's decision, and the curve."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.evaluation.comparison import TrialComparison, compare_fusions
from gating.evaluation.scores import ClipScores
from gating.fusions.fixed import FRACTIONS
from gating.report.clips import Gallery
from gating.report.disagreement import agreement, decisions, disagreement, right_by_fraction, weight_curve
from tests.make.comparisons import evidence_of
from tests.make.scores import CHEAP

NO_IMAGES = Gallery(store=None, reason="none")


def compared(*, flow: list[float], rgb: list[float], gates: list[tuple[float, float]]) -> TrialComparison:
    """Clips of label "up", by how far each stream's score of "up" lies above that of "down"."""
    margins = {"flow": np.array(flow), "rgb": np.array(rgb)}
    scores = {name: np.stack([value, np.zeros(len(value))], axis=1) for name, value in margins.items()}
    weights = np.array(gates, float)
    used = np.where(weights.any(axis=1, keepdims=True), weights, 1.0)
    one = ClipScores(
        ids=tuple(f"clip{k}" for k in range(len(flow))),
        groups=tuple(f"clip{k}" for k in range(len(flow))),
        classes=("up", "down"),
        labels=np.zeros(len(flow), np.int64),
        flow=scores["flow"],
        rgb=scores["rgb"],
        gates=weights,
        gated=used[:, :1] * scores["flow"] + used[:, 1:] * scores["rgb"],
    )
    return compare_fusions(one, fit_on=one, validation=one, split="s", names=CHEAP)


def test_a_bound_is_where_the_sum_turns_right() -> None:
    # 3 f - (1 - f) > 0 from f = .25 on; -1 f + 3 (1 - f) > 0 below f = .75.
    found = decisions([compared(flow=[3, -1], rgb=[-1, 3], gates=[(0.2, 0.8), (0.2, 0.8)])])
    by_id = {one.video_id: one for one in found}
    assert by_id["clip0"].bound == pytest.approx(0.26, abs=0.011)
    assert by_id["clip1"].bound == pytest.approx(0.74, abs=0.011)
    assert (by_id["clip0"].right_stream, by_id["clip0"].is_right) == ("flow", False)
    assert (by_id["clip1"].right_stream, by_id["clip1"].is_right) == ("rgb", True)
    assert "the gate's is 0.20 (wrong)" in by_id["clip0"].why


def test_those_whose_wrong_stream_is_surest_come_first_and_agreement_is_left_out() -> None:
    one = compared(flow=[3, 3, 3, -2], rgb=[-1, -4, 2, -2], gates=[(1, 1)] * 4)
    assert [each.video_id for each in decisions([one])] == ["clip1", "clip0"]


def test_a_clip_of_several_seeds_is_shown_once() -> None:
    one = compared(flow=[3], rgb=[-1], gates=[(1, 1)])
    again = dataclasses.replace(one, seed=1)
    assert [each.comparison.seed for each in decisions([one, again])] == [0]


def test_table_counts_each_prediction_once_and_gives_the_gates_mean_fraction() -> None:
    one = compared(
        flow=[3, 3, 3, -1, -2], rgb=[1, -1, -1, 3, -2], gates=[(1, 1), (1, 0), (1, 1), (1, 3), (0, 0)]
    )
    rows = {row.right: row for row in agreement(evidence_of(one))}
    assert [row.count for row in rows.values()] == [1, 2, 1, 1]
    assert (rows["flow alone"].gate, rows["flow alone"].fraction) == ("100.0", "0.75")
    assert (rows["rgb alone"].gate, rows["rgb alone"].fraction) == ("100.0", "0.25")
    # The gate of this clip is zero for both streams, and has no fraction.
    assert (rows["neither"].gate, rows["neither"].fraction) == ("0.0", "\N{EN DASH}")


def test_curve_runs_from_rgb_alone_to_flow_alone_and_bears_the_gate() -> None:
    one = compared(flow=[3, 3, -1, -1], rgb=[-1, 1, 3, -1], gates=[(1, 1), (1, 0), (1, 3), (1, 1)])
    right = right_by_fraction(one)
    assert right[:, 0].tolist() == [bool(round(4 * f - 1, 9) >= 0) for f in FRACTIONS]  # a tie is "up"
    drawn = weight_curve(evidence_of(one))
    assert drawn.label.startswith("Top-1 of fixed weights by flow's fraction: 50.0 % at 0, 75.0 % at")
    assert drawn.label.endswith("50.0 % at 1")
    gate = next(mark for mark in drawn.marks if mark.kind == "gate")
    assert (gate.x, gate.y) == pytest.approx(((0.5 + 1 + 0.25 + 0.5) / 4, 0.75))


def test_a_mean_over_splits_counts_each_split_alike() -> None:
    # Flow is right on both clips of one split and on one clip of three of the other.
    two = dataclasses.replace(compared(flow=[3, 3], rgb=[-1, -1], gates=[(1, 1)] * 2), split="a")
    three = dataclasses.replace(compared(flow=[3, -3, -3], rgb=[-1] * 3, gates=[(1, 1)] * 3), split="b")
    assert weight_curve(evidence_of(two, three)).label.endswith("66.7 % at 1")


def test_clips_shown_elsewhere_are_left_out() -> None:
    one = compared(flow=[3, 3, 3], rgb=[-1, -2, -4], gates=[(1, 1), (1, 1), (1, 9)])
    found = disagreement(evidence_of(one), NO_IMAGES, 4, shown={"clip1"})
    assert [card.video_id for card in found.right] == ["clip0"]
    assert [card.video_id for card in found.wrong] == ["clip2"]


def test_without_a_gate_there_are_the_curve_and_the_table_alone() -> None:
    one = compared(flow=[3, -1], rgb=[-1, 3], gates=[(1, 1)] * 2)
    bare = dataclasses.replace(one, scores=dataclasses.replace(one.scores, gates=None, gated=None))
    fused = {name: scores for name, scores in one.fused.items() if name != "gating"}
    found = disagreement(evidence_of(dataclasses.replace(bare, fused=fused)), NO_IMAGES, 12)
    assert (found.right, found.wrong) == ([], [])
    assert [mark.kind for mark in found.curve.marks] == ["search"]
    assert {row.gate for row in found.rows} == {"\N{EN DASH}"}
