"""Parts of the page, from comparisons whose figures are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from gating.evaluation.comparison import Gain, TrialComparison, fusion_rows, gains
from gating.report.charts import cell_px, histogram, interval, matrix, reliability, signed_bar
from gating.report.clips import choose, find_changed
from gating.report.data import Evidence, class_gains, confusion_data, flow_fractions, paired_tests
from gating.report.format import (
    chance,
    counted,
    percent,
    points,
    preference,
    span_of_chances,
    verdict,
)
from gating.statistics import calibration
from tests.make.scores import made_comparison

CLASSES = ("up", "down")
MINUS = "\N{MINUS SIGN}"


def predicting(
    gate: Sequence[bool], fixed: Sequence[bool], *, seed: int = 0, part: str = "test", sure: float = 5.0
) -> TrialComparison:
    """A comparison whose gate and best fixed weights are right as given."""
    one = made_comparison([f"{part}{k}" for k in range(len(gate))], CLASSES, part=part)
    labels = one.scores.labels

    def scores(right: Sequence[bool]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return sure * np.eye(2)[np.where(right, labels, 1 - labels)]

    return dataclasses.replace(
        one, seed=seed, fused={**one.fused, "gating": scores(gate), "search": scores(fixed)}
    )


def evidence_of(*comparisons: TrialComparison) -> Evidence:
    return Evidence(
        context=None,  # type: ignore[arg-type]  # not read by these parts
        comparisons=comparisons,
        rows=fusion_rows(comparisons),
        gains=gains(comparisons),
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
    gain = Gain(baseline="search", mean=sum(interval) / 2, interval=interval, per_seed=(0.0,))
    assert word in verdict(gain)


def test_preference_names_what_predict_uses() -> None:
    likes, not_so = (
        dataclasses.replace(predicting([True], [True]), validation={"search": 0.5, "gating": gating})
        for gating in (0.6, 0.5)
    )
    assert "predict uses it" in preference([likes, likes])
    assert "predict uses the fixed weights" in preference([not_so])
    assert "1 of 2 trials" in preference([likes, not_so])


def test_folds_are_tested_together_and_seeds_apart() -> None:
    trials = [
        predicting([True, True], [False, False], part=part, seed=seed)
        for part in ("0", "1")
        for seed in (0, 1)
    ]
    tests = paired_tests(trials)
    assert [(one.only_first, one.only_second) for one in tests] == [(4, 0), (4, 0)]


def test_changed_clips_are_found_by_how_often_and_how_plainly() -> None:
    trials = [
        predicting([True, False, True, True], [False, True, True, False], seed=0, sure=2.0),
        predicting([True, True, True, False], [False, True, True, True], seed=1, sure=6.0),
    ]
    changed = find_changed(trials)
    # Clip 2 never changed, and clip 3 was saved once and lost once.
    assert [(clip.video_id, clip.saved, clip.lost) for clip in changed] == [("test0", 2, 0), ("test1", 0, 1)]
    assert changed[0].comparison is trials[1]
    assert changed[0].margin > changed[1].margin > 0


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
    changed = find_changed([predicting(saved, [not one for one in saved])])
    shown = choose(changed, count)
    assert tuple(map(len, shown)) == expected
    assert all(clip.is_saved for clip in shown[0])
    assert not any(clip.is_saved for clip in shown[1])


def test_gain_of_a_class_is_over_all_trials() -> None:
    gate, fixed = [True, True, False, False], [False, True, True, False]
    gain, clips = class_gains(evidence_of(*(predicting(gate, fixed, seed=seed) for seed in (0, 1))))
    # Labels alternate: of clips 0 and 2 one is saved and one is lost, of 1 and 3 none.
    assert gain.tolist() == [0.0, 0.0]
    assert clips.tolist() == [4, 4]
    gain, _ = class_gains(evidence_of(predicting([True, True], [False, True])))
    assert gain.tolist() == [1.0, 0.0]


def test_confusion_goes_to_the_script_as_row_column_count() -> None:
    data = confusion_data(evidence_of(predicting([True, False, True], [True, True, True])))
    assert data["matrices"]["gating"] == [0, 0, 2, 1, 0, 1]
    assert data["matrices"]["search"] == [0, 0, 2, 1, 1, 1]


def test_cells_shrink_with_the_classes_and_stay_visible() -> None:
    assert [cell_px(classes) for classes in (2, 4, 8, 24, 101, 1000)] == [44, 44, 44, 15, 9, 9]


def test_bars_of_a_histogram_are_as_tall_as_their_counts() -> None:
    _, first, third, line = histogram([1, 0, 4], label="x", mark=0.5, height=20).shapes
    assert (first.x, first.height, third.x, third.height) == pytest.approx((0, 5, 200 / 3, 20))
    assert first.y + first.height == third.y + third.height == 20
    assert line.kind == "mark-line"
    assert line.x + line.width / 2 == pytest.approx(50)


def test_gain_is_drawn_to_the_right_and_loss_to_the_left() -> None:
    gain, loss = (signed_bar(value, most=0.4, label="x").shapes[1] for value in (0.2, -0.4))
    assert (gain.kind, gain.x, gain.width) == ("gain", 50, 25)
    assert (loss.kind, loss.x, loss.width) == ("loss", 0, 50)
    assert signed_bar(0.0, most=0.0, label="x").shapes[1].width == 0


def test_interval_lies_on_its_axis_and_never_beyond() -> None:
    _, reach, mean = interval(0.6, 0.5, 0.9, axis=(0.5, 0.75), label="x").shapes
    assert (reach.x, reach.width, mean.x + mean.width / 2) == pytest.approx((0, 100, 40))


def test_reliability_has_a_bar_for_each_filled_bin() -> None:
    # Two predictions of 90 % of which one is right: a bar of half the height in the bin that holds .9.
    measured = calibration(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]))
    drawn = reliability("gating", measured)
    (bar,) = drawn.bars
    assert drawn.error == pytest.approx(0.4)
    assert bar.height == pytest.approx(drawn.box.height / 2)
    assert bar.title == "confidence 90.0 %: 50.0 % of 2 predictions are right"


def test_matrix_writes_its_numbers_only_where_a_cell_holds_them() -> None:
    drawn = matrix("gating", np.array([[3, 1], [0, 4]]), ("up", "down"))
    assert [number.words for number in drawn.numbers] == ["75", "25", "100"]
    assert [(path.kind, path.line) for path in drawn.heat] == [
        ("hit", "M0 0h1v1h-1z"),
        ("hit", "M1 1h1v1h-1z"),
        ("miss", "M1 0h1v1h-1z"),
    ]
    assert matrix("gating", np.eye(30, dtype=np.int64), [f"c{k}" for k in range(30)]).numbers == ()


def test_fraction_of_flow_knows_zero_gates() -> None:
    fractions = flow_fractions(np.array([[1.5, 0.5], [0.0, 2.0], [0.0, 0.0]]))
    assert fractions[:2].tolist() == [0.75, 0.0]
    assert math.isnan(fractions[2])


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
    assert span_of_chances([0.5, 0.012, 0.3]) == "0.012 to 0.5"
    assert span_of_chances([0.5, 0.501]) == "0.5"
    assert (counted(1, "class", "classes"), counted(2, "class", "classes")) == ("1 class", "2 classes")
