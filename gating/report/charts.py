"""Charts as shapes of SVG; `templates/charts.html` writes them.

A strip scales to the width of its cell, with its text beside it. A diagram and a matrix have
a coordinate system of their own.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gating.evaluation.comparison import FusionRow
from gating.report.format import percent, shortened
from gating.statistics import Calibration

_WIDTH = 100.0  # of a strip
_AXIS_STEP = 0.05

_SIDE, _LEFT, _TOP = 200, 34, 8  # of a reliability diagram

_MATRIX_PX = 360
_CELL_PX = (9, 44)
_WRITTEN_PX = 26  # least cell that holds a number
_LETTER = 0.62  # width of one, as a fraction of its height
_LEVELS = 12


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rect:
    """A rectangle; `title` is shown on hovering."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    opacity: float | None = None
    title: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """An outline in the syntax of SVG."""

    line: str
    kind: str
    opacity: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text at (x, y), or moved and turned by `transform`; `title` is shown on hovering."""

    words: str
    x: float = 0
    y: float = 0
    transform: str | None = None
    anchor: str | None = None
    kind: str | None = None
    title: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """A chart 100 units wide that is scaled to its cell; `label` is its text for screen readers."""

    label: str
    shapes: tuple[Rect, ...]
    height: float = 10


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of a chart: a name, a strip, and a number."""

    name: str
    strip: Strip
    value: str

    @property
    def title(self) -> str:
        """The line in words."""
        return self.strip.label


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Lines of a chart; `folded` between the first and the last ones, under `summary`."""

    first: Sequence[Row]
    folded: Sequence[Row] = ()
    summary: str = ""
    last: Sequence[Row] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """A diagram of accuracy over confidence, and the expected calibration error, [0, 1]."""

    name: str
    error: float
    box: Rect
    bars: tuple[Rect, ...]
    diagonal: str
    ticks: tuple[Text, ...]
    width: int = _LEFT + _SIDE + 14
    height: int = _TOP + _SIDE + 34


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """A confusion matrix at its own size.

    Attributes
    ----------
    name : str
        Of the fusion.
    side, margin, cell, font : int
        Of the image, of its names, of a cell and of a letter, px.
    frame : str
        Outline of all cells; like `heat` in cells, not px.
    heat
        One path for all cells of one strength.
    labels, numbers
        Names of the classes; per cent, where a cell holds them.
    """

    name: str
    side: int
    margin: int
    cell: int
    font: int
    frame: str
    heat: tuple[Path, ...]
    labels: tuple[Text, ...]
    numbers: tuple[Text, ...]


def axis_of(rows: dict[str, FusionRow]) -> tuple[float, float]:
    """Return a range of round fractions that contains all intervals."""
    low = min(row.interval[0] for row in rows.values())
    high = max(row.interval[1] for row in rows.values())
    start = max(0.0, math.floor(low / _AXIS_STEP) * _AXIS_STEP)
    return start, max(start + _AXIS_STEP, min(1.0, math.ceil(high / _AXIS_STEP) * _AXIS_STEP))


def interval(mean: float, low: float, high: float, *, axis: tuple[float, float], label: str) -> Strip:
    """Return a mean with its interval on an axis from `axis[0]` to `axis[1]`."""
    start, end = axis

    def position(value: float) -> float:
        return _WIDTH * min(1.0, max(0.0, (value - start) / (end - start)))

    length = max(0.4, position(high) - position(low))
    shapes = (
        Rect(x=0, y=4.7, width=_WIDTH, height=0.6, kind="axis-line"),
        Rect(x=position(low), y=3, width=length, height=4, kind="range"),
        Rect(x=min(position(mean), _WIDTH - 1) - 0.5, y=0.5, width=1, height=9, kind="mean"),
    )
    return Strip(label=label, shapes=shapes)


def signed_bar(value: float, *, most: float, label: str) -> Strip:
    """Return a bar to the right of the middle for a gain, to the left for a loss."""
    length = _WIDTH / 2 * min(1.0, abs(value) / most) if most > 0 else 0.0
    start = _WIDTH / 2 if value >= 0 else _WIDTH / 2 - length
    shapes = (
        Rect(x=_WIDTH / 2 - 0.15, y=0, width=0.3, height=10, kind="axis-line"),
        Rect(x=start, y=1, width=length, height=8, kind="gain" if value >= 0 else "loss"),
    )
    return Strip(label=label, shapes=shapes)


def histogram(counts: Sequence[float], *, label: str, mark: float | None = None, height: float = 24) -> Strip:
    """Return bars of equal width, the tallest filling the height.

    Parameters
    ----------
    counts
        Of each bin.
    label
        Its text for screen readers.
    mark
        Position of a line, as a fraction of the width.
    """
    tallest = max(counts, default=0) or 1
    width = _WIDTH / max(1, len(counts))
    shapes = [Rect(x=0, y=height - 0.4, width=_WIDTH, height=0.4, kind="axis-line")]
    for k, count in enumerate(counts):
        if count:
            tall = height * count / tallest
            shapes.append(
                Rect(
                    x=k * width, y=height * (1 - count / tallest), width=0.9 * width, height=tall, kind="bar"
                )
            )
    if mark is not None:
        shapes.append(Rect(x=_WIDTH * mark - 0.2, y=0, width=0.4, height=height, kind="mark-line"))
    return Strip(label=label, shapes=tuple(shapes), height=height)


def reliability(name: str, measured: Calibration) -> Reliability:
    """Return the diagram of a fusion's calibration; stronger bars hold more predictions."""
    bins = zip(
        measured.confidence.tolist(), measured.accuracy.tolist(), measured.counts.tolist(), strict=True
    )
    most = max(1, int(measured.counts.max()))
    width = _SIDE / len(measured.counts)
    bars = tuple(
        Rect(
            x=_LEFT + k * width,
            y=_TOP + _SIDE * (1 - accuracy),
            width=width * 0.92,
            height=_SIDE * accuracy,
            kind="bar",
            opacity=0.25 + 0.75 * math.sqrt(count / most),
            title=(
                f"confidence {percent(confidence)} %: {percent(accuracy)} % of {count} predictions are right"
            ),
        )
        for k, (confidence, accuracy, count) in enumerate(bins)
        if count
    )
    return Reliability(
        name=name,
        error=measured.error,
        box=Rect(x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE, kind="paper"),
        bars=bars,
        diagonal=f"M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}",
        ticks=_ticks(),
    )


def _ticks() -> tuple[Text, ...]:
    bottom, middle = _TOP + _SIDE, _SIDE / 2
    upwards = f"translate(9 {_TOP + middle}) rotate(-90)"
    found = [
        Text(words="confidence", x=_LEFT + middle, y=bottom + 29, anchor="middle"),
        Text(words="accuracy", transform=upwards, anchor="middle"),
    ]
    for value in (0.0, 0.5, 1.0):
        along = value * _SIDE
        found.append(Text(words=f"{value:g}", x=_LEFT + along, y=bottom + 14, anchor="middle"))
        found.append(Text(words=f"{value:g}", x=_LEFT - 5, y=bottom - along + 4, anchor="end"))
    return tuple(found)


def matrix(name: str, counts: NDArray[np.int64], classes: Sequence[str]) -> Matrix:
    """Return a confusion matrix, int64 (C, C), rows labels, readable from 4 classes to 101."""
    cell = cell_px(len(classes))
    font = min(12, cell - 1)
    short = [shortened(one) for one in classes]
    margin = round(max(map(len, short)) * font * _LETTER) + 10
    fractions = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return Matrix(
        name=name,
        side=margin + cell * len(classes) + 2,
        margin=margin,
        cell=cell,
        font=font,
        frame=f"M0 0h{len(classes)}v{len(classes)}h-{len(classes)}z",
        heat=_heat(fractions),
        labels=_class_names(classes, short, margin, cell),
        numbers=_numbers(fractions, margin, cell) if cell >= _WRITTEN_PX else (),
    )


def cell_px(classes: int) -> int:
    """Return the side of a cell, px."""
    least, most = _CELL_PX
    return max(least, min(most, _MATRIX_PX // classes))


def _heat(fractions: NDArray[np.float64]) -> tuple[Path, ...]:
    """Return the filled cells; the root of the fraction, so that a single mistake of many is seen."""
    cells_of: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row, column in np.argwhere(fractions > 0).tolist():
        level = max(1, round(_LEVELS * float(fractions[row, column]) ** 0.5))
        cells_of["hit" if row == column else "miss", level].append(f"M{column} {row}h1v1h-1z")
    return tuple(
        Path(line="".join(cells), kind=kind, opacity=level / _LEVELS)
        for (kind, level), cells in sorted(cells_of.items())
    )


def _class_names(classes: Sequence[str], short: Sequence[str], margin: int, cell: int) -> tuple[Text, ...]:
    found = []
    for k, (name, words) in enumerate(zip(classes, short, strict=True)):
        middle = margin + (k + 0.5) * cell
        title = None if words == name else name
        found.append(Text(words=words, x=margin - 6, y=middle, anchor="end", title=title))
        turned = f"translate({middle:g} {margin - 6}) rotate(-90)"
        found.append(Text(words=words, transform=turned, title=title))
    return tuple(found)


def _numbers(fractions: NDArray[np.float64], margin: int, cell: int) -> tuple[Text, ...]:
    return tuple(
        Text(
            words=f"{100 * fractions[row, column]:.0f}",
            x=margin + (column + 0.5) * cell,
            y=margin + (row + 0.5) * cell,
            kind="on" if row == column and fractions[row, column] > 0.25 else None,
        )
        for row, column in np.argwhere(fractions >= 0.005).tolist()
    )
