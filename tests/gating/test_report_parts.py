"""What the page says, from judgements whose answer is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from gating.evaluation.comparison import Comparison, Gain, fusion_rows, gains
from gating.report.class_gain import class_gains
from gating.report.confusion import cell_px, confusion_data
from gating.report.evidence import Evidence
from gating.report.gate_weights import flow_shares
from gating.report.headline import paired_tests, preference, verdict
from gating.report.turns import choose, find_turns
from gating.report.wording import chance, percent, points
from tests.gating.runs import made_comparison

CLASSES = ("up", "down")
MINUS = "\N{MINUS SIGN}"


def answering(
    gate: Sequence[bool], fixed: Sequence[bool], *, seed: int = 0, part: str = "test", sure: float = 5.0
) -> Comparison:
    """A judgement whose gate and best fixed weights are right as told."""
    one = made_comparison([f"{part}{k}" for k in range(len(gate))], CLASSES, part=part)
    labels = one.scores.labels

    def scores(right: Sequence[bool]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return sure * np.eye(2)[np.where(right, labels, 1 - labels)]

    return dataclasses.replace(
        one, seed=seed, fused={**one.fused, "gating": scores(gate), "search": scores(fixed)}
    )


def evidence_of(*judgements: Comparison) -> Evidence:
    return Evidence(
        context=None,  # type: ignore[arg-type]  # not read by these parts
        judgements=judgements,
        rows=fusion_rows(judgements),
        gains=gains(judgements),
    )


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((0.01, 0.03), "is better than"),
        ((-0.03, -0.01), "is worse than"),
        ((-0.01, 0.02), "no better and no worse"),
    ],
)
def test_verdict_follows_the_interval(interval: tuple[float, float], word: str) -> None:
    gain = Gain(rival="search", mean=sum(interval) / 2, interval=interval, per_seed=(0.0,))
    assert word in verdict(gain)


def test_preference_tells_what_predict_uses() -> None:
    likes, not_so = (
        dataclasses.replace(answering([True], [True]), validation={"search": 0.5, "gating": gating})
        for gating in (0.6, 0.5)
    )
    assert "predict uses it" in preference([likes, likes])
    assert "predict uses the fixed weights" in preference([not_so])
    assert "1 of 2 trials" in preference([likes, not_so])


def test_folds_are_tested_together_and_seeds_apart() -> None:
    trials = [
        answering([True, True], [False, False], part=part, seed=seed)
        for part in ("0", "1")
        for seed in (0, 1)
    ]
    tests = paired_tests(trials)
    assert [(one.only_first, one.only_second) for one in tests] == [(4, 0), (4, 0)]


def test_turns_are_found_by_how_often_and_how_plainly() -> None:
    trials = [
        answering([True, False, True, True], [False, True, True, False], seed=0, sure=2.0),
        answering([True, True, True, False], [False, True, True, True], seed=1, sure=6.0),
    ]
    turns = find_turns(trials)
    # Clip 2 never turned, and clip 3 was saved once and lost once.
    assert [(turn.video_id, turn.saved, turn.lost) for turn in turns] == [("test0", 2, 0), ("test1", 0, 1)]
    assert turns[0].judgement is trials[1]
    assert turns[0].margin > turns[1].margin > 0


@pytest.mark.parametrize(
    ("n_saved", "n_lost", "count", "expected"),
    [
        (9, 9, 4, (2, 2)),
        (9, 9, 5, (3, 2)),
        (9, 1, 4, (3, 1)),
        (1, 9, 4, (1, 3)),
        (1, 1, 4, (1, 1)),
        (3, 3, 0, (0, 0)),
    ],
)
def test_half_of_the_shown_are_saved(
    n_saved: int, n_lost: int, count: int, expected: tuple[int, int]
) -> None:
    saved = [True] * n_saved + [False] * n_lost
    turns = find_turns([answering(saved, [not one for one in saved])])
    shown = choose(turns, count)
    assert tuple(map(len, shown)) == expected
    assert all(turn.is_saved for turn in shown[0])
    assert not any(turn.is_saved for turn in shown[1])


def test_gain_of_a_class_is_over_all_trials() -> None:
    gate, fixed = [True, True, False, False], [False, True, True, False]
    gain, clips = class_gains(evidence_of(*(answering(gate, fixed, seed=seed) for seed in (0, 1))))
    # Labels alternate: of clips 0 and 2 one is saved and one is lost, of 1 and 3 none.
    assert gain.tolist() == [0.0, 0.0]
    assert clips.tolist() == [4, 4]
    gain, _ = class_gains(evidence_of(answering([True, True], [False, True])))
    assert gain.tolist() == [1.0, 0.0]


def test_confusion_goes_to_the_script_as_row_column_count() -> None:
    data = confusion_data(evidence_of(answering([True, False, True], [True, True, True])))
    assert data["matrices"]["gating"] == [0, 0, 2, 1, 0, 1]
    assert data["matrices"]["search"] == [0, 0, 2, 1, 1, 1]


def test_cells_shrink_with_the_classes_and_stay_visible() -> None:
    assert [cell_px(classes) for classes in (2, 4, 8, 24, 101, 1000)] == [44, 44, 44, 15, 9, 9]


def test_share_of_flow_knows_zero_gates() -> None:
    shares = flow_shares(np.array([[1.5, 0.5], [0.0, 2.0], [0.0, 0.0]]))
    assert shares[:2].tolist() == [0.75, 0.0]
    assert math.isnan(shares[2])


def test_numbers_are_written_with_their_sign_and_without_a_false_zero() -> None:
    assert [points(one) for one in (0.012, -0.012, 0.0, -0.0001, math.nan)] == [
        "+1.2",
        f"{MINUS}1.2",
        "0.0",
        "0.0",
        "\N{EN DASH}",
    ]
    assert (percent(0.945), percent(0.945, 0), percent(math.nan)) == ("94.5", "94", "\N{EN DASH}")
    assert (chance(0.5), chance(0.0123), chance(1e-9)) == ("0.5", "0.012", "< 0.0001")
