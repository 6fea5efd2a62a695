"""Shapes of the charts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.report.charts import cell_px, histogram, interval, matrix, reliability, signed_bar
from gating.statistics import calibration


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
