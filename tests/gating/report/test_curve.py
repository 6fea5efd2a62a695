from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("torch")

from gating.report.curve import Curve, Mark, draw_curve

FRACTIONS = np.array([0.0, 0.5, 1.0])
GATE = Mark(name="gate", kind="gating", x=0.25, y=0.9)


def curve(heights: list[float], *, bound: float | None = None, marks: tuple[Mark, ...] = (GATE,)) -> Curve:
    return draw_curve(FRACTIONS, np.array(heights), marks=marks, bound=bound)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def level(made: Curve, y: float) -> float:
    """Return the accuracy at a height of the picture, by its own ticks."""
    ticks = [(text.y - 4, float(text.words) / 100) for text in made.ticks if text.anchor == "end"]
    (bottom, low), *_, (top, high) = ticks
    return low + (high - low) * (bottom - y) / (bottom - top)


def test_points_stand_where_the_ticks_say() -> None:
    heights = [0.62, 0.85, 0.71]
    made = curve(heights)
    found = points(made.line)
    assert [x for x, _ in found] == pytest.approx([made.box.x + made.box.width * one for one in FRACTIONS])
    assert [level(made, y) for _, y in found] == pytest.approx(heights, abs=1e-3)
    ((x, y),) = made.dots
    assert x == made.box.x + made.box.width / 4
    assert level(made, y) == pytest.approx(0.9, abs=1e-3)


def test_the_oracles_level_is_a_line_inside_the_picture() -> None:
    made = curve([0.62, 0.85, 0.71], bound=0.97)
    ((x, y),) = points(made.bound)
    assert x == made.box.x
    assert level(made, y) == pytest.approx(0.97, abs=1e-3)
    assert made.box.y <= y <= made.box.y + made.box.height
    assert curve([0.62, 0.85, 0.71]).bound == ""


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0])
def test_equal_heights_are_drawn_all_the_same(height: float) -> None:
    made = curve([height] * 3, marks=())
    assert [level(made, y) for _, y in points(made.line)] == pytest.approx([height] * 3, abs=1e-3)


def test_the_label_has_both_ends_and_the_best() -> None:
    label = curve([0.62, 0.85, 0.71]).label
    assert label == "Top-1 of fixed weights by flow's fraction: 62.0 % at 0, 85.0 % at 0.50, 71.0 % at 1"
    assert GATE.title == "gate: 90.0 % at a fraction of 0.25"
