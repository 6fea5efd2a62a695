"""The picture of top-1 over flow's fraction of two fixed weights, as shapes of SVG."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gating.report.charts import Rect, Text
from gating.report.format import percent

_WIDTH, _HEIGHT, _LEFT, _TOP = 400, 200, 34, 8
_RIGHT, _BELOW = 24, 34
_LEVEL_STEP = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A named point of a curve, in its units; `kind` is its style."""

    name: str
    kind: str
    x: float
    y: float

    @property
    def title(self) -> str:
        """The point in words."""
        return f"{self.name}: {percent(self.y)} % at a fraction of {self.x:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Accuracy over a fraction, with points beside it; coordinates of `line`, `bound` and `dots` are px.

    `marks` are the points in their own units, one for each dot, and `bound` is a level, "" for none.
    """

    label: str
    box: Rect
    line: str
    bound: str
    dots: tuple[tuple[float, float], ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Text, ...]
    width: int = _LEFT + _WIDTH + _RIGHT
    height: int = _TOP + _HEIGHT + _BELOW


def draw_curve(
    fractions: NDArray[np.float64],
    heights: NDArray[np.float64],
    *,
    marks: Sequence[Mark],
    bound: float | None,
) -> Curve:
    """Return a curve of top-1 over flow's fraction; `bound` is the level of the oracle."""
    levels = [*heights.tolist(), *(mark.y for mark in marks), *(() if bound is None else (bound,))]
    low = max(0.0, math.floor(min(levels) / _LEVEL_STEP) * _LEVEL_STEP)
    high = max(low + _LEVEL_STEP, min(1.0, math.ceil(max(levels) / _LEVEL_STEP) * _LEVEL_STEP))

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + _WIDTH * x, _TOP + _HEIGHT * (high - y) / (high - low)

    points = [place(*point) for point in zip(fractions.tolist(), heights.tolist(), strict=True)]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    level = "" if bound is None else f"M{_LEFT} {place(0, bound)[1]:.1f}h{_WIDTH}"
    best = int(heights.argmax())
    label = (
        f"Top-1 of fixed weights by flow's fraction: {percent(float(heights[0]))} % at 0, "
        f"{percent(float(heights[best]))} % at {fractions[best]:.2f}, {percent(float(heights[-1]))} % at 1"
    )
    return Curve(
        label=label,
        box=Rect(x=_LEFT, y=_TOP, width=_WIDTH, height=_HEIGHT, kind="paper"),
        line=line,
        bound=level,
        dots=tuple(place(mark.x, mark.y) for mark in marks),
        marks=tuple(marks),
        ticks=_curve_ticks(low, high),
    )


def _curve_ticks(low: float, high: float) -> tuple[Text, ...]:
    bottom = _TOP + _HEIGHT
    upwards = f"translate(9 {_TOP + _HEIGHT / 2}) rotate(-90)"
    found = [
        Text(words="flow's fraction of the weights", x=_LEFT + _WIDTH / 2, y=bottom + 29, anchor="middle"),
        Text(words="top-1, %", transform=upwards, anchor="middle"),
    ]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + _WIDTH * value
        found.append(Text(words=f"{value:g}", x=x, y=bottom + 14, anchor="middle"))
    for share in (0.0, 0.5, 1.0):
        level = low + (high - low) * share
        y = bottom - _HEIGHT * share + 4
        found.append(Text(words=f"{100 * level:g}", x=_LEFT - 5, y=y, anchor="end"))
    return tuple(found)
