"""Confusion matrices, readable from 4 classes to 101, and the commonest mistakes in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING
from gating.report.evidence import Evidence
from gating.report.markup import Html, cells, folded, join, note, section, table, tag
from gating.report.wording import shortened

Counts = NDArray[np.int64]

MANY_CLASSES = 20
_SIDE_PX = 360
_CELL_PX = (9, 44)
_WRITTEN_PX = 26  # least cell that holds a number
_LETTER = 0.62  # width of one, as a share of its height
_LEVELS = 12
_MISTAKES = 10


def confusion_section(evidence: Evidence) -> Html:
    """Return a matrix of the gate, the best fixed weights and both streams."""
    names = evidence.classes
    figures = {name: _figure(name, evidence.confusion(name), names) for name in evidence.shown}
    fused = [figures[name] for name in (GATING, BASELINE) if name in figures]
    streams = [figures[name] for name in figures if name not in (GATING, BASELINE)]
    many = len(names) > MANY_CLASSES
    return section(
        "Confusion",
        note(
            "Rows are labels, columns answers, over all trials; a cell's strength is its share of the row. "
            "Point at a cell to read it."
        ),
        tag("div", fused, None if many else streams, class_="matrices"),
        folded("The streams alone", tag("div", streams, class_="matrices")) if many else None,
        _mistakes(evidence),
    )


def confusion_data(evidence: Evidence) -> dict[str, Any]:
    """Return what the page's script reads: classes, and each matrix as row, column, count, row, ..."""
    matrices = {}
    for name in evidence.shown:
        counts = evidence.confusion(name)
        rows, columns = np.nonzero(counts)
        matrices[name] = np.stack([rows, columns, counts[rows, columns]], axis=1).ravel().tolist()
    return {"classes": evidence.classes, "matrices": matrices}


def cell_px(classes: int) -> int:
    """Return the side of a cell, px."""
    least, most = _CELL_PX
    return max(least, min(most, _SIDE_PX // classes))


def _figure(name: str, counts: Counts, classes: Sequence[str]) -> Html:
    readout = tag("p", "\N{NO-BREAK SPACE}", class_="readout", aria_live="polite")
    picture = tag("div", matrix_svg(name, counts, classes), class_="wide", tabindex=0)
    return tag("figure", tag("figcaption", name), picture, readout, data_confusion=name)


def matrix_svg(name: str, counts: Counts, classes: Sequence[str]) -> Html:
    """Draw a matrix at its own size: one path for all cells of one strength."""
    cell = cell_px(len(classes))
    font = min(12, cell - 1)
    short = [shortened(one) for one in classes]
    margin = round(max(map(len, short)) * font * _LETTER) + 10
    side = margin + cell * len(classes)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return tag(
        "svg",
        tag("title", f"Confusion matrix of {name}"),
        tag("g", _labels(classes, short, margin, cell), font_size=font),
        tag(
            "g",
            tag("path", d=_frame(len(classes)), class_="paper"),
            _heat(shares),
            transform=f"translate({margin} {margin}) scale({cell})",
        ),
        _numbers(shares, margin, cell) if cell >= _WRITTEN_PX else None,
        width=side + 2,
        height=side + 2,
        viewBox=f"0 0 {side + 2} {side + 2}",
        role="img",
        data_margin=margin,
        data_cell=cell,
    )


def _frame(classes: int) -> str:
    return f"M0 0h{classes}v{classes}h-{classes}z"


def _heat(shares: NDArray[np.float64]) -> list[Html]:
    """Return the filled cells; the root of the share, so that a single mistake of many is seen."""
    cells_of: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row, column in np.argwhere(shares > 0).tolist():
        level = max(1, round(_LEVELS * float(shares[row, column]) ** 0.5))
        cells_of["hit" if row == column else "miss", level].append(f"M{column} {row}h1v1h-1z")
    return [
        tag("path", d="".join(path), class_=kind, fill_opacity=level / _LEVELS)
        for (kind, level), path in sorted(cells_of.items())
    ]


def _labels(classes: Sequence[str], short: Sequence[str], margin: int, cell: int) -> list[Html]:
    found = []
    for k, (name, words) in enumerate(zip(classes, short, strict=True)):
        middle = margin + (k + 0.5) * cell
        title = None if words == name else tag("title", name)
        common = {"dominant_baseline": "central"}
        found.append(tag("text", words, title, x=margin - 6, y=middle, text_anchor="end", **common))
        turn = f"translate({middle:g} {margin - 6}) rotate(-90)"
        found.append(tag("text", words, title, transform=turn, **common))
    return found


def _numbers(shares: NDArray[np.float64], margin: int, cell: int) -> Html:
    texts = [
        tag(
            "text",
            f"{100 * shares[row, column]:.0f}",
            x=margin + (column + 0.5) * cell,
            y=margin + (row + 0.5) * cell,
            class_="on" if row == column and shares[row, column] > 0.25 else None,
        )
        for row, column in np.argwhere(shares >= 0.005).tolist()
    ]
    return tag("g", texts, class_="numbers", text_anchor="middle", dominant_baseline="central")


def _mistakes(evidence: Evidence) -> Html | None:
    """Return the pairs that are taken for each other most, by the gate and the best fixed weights."""
    counts = {name: evidence.confusion(name) for name in evidence.shown}
    total = sum(counts[name] for name in (GATING, BASELINE) if name in counts)
    total = np.where(np.eye(len(evidence.classes), dtype=bool), 0, total)
    order = np.argsort(total, axis=None, kind="stable")[::-1][:_MISTAKES]
    pairs = [(int(k) // len(total), int(k) % len(total)) for k in order if total.flat[k] > 0]
    if not pairs:
        return None
    lines = [
        cells(
            tag("span", evidence.classes[row], class_="said"),
            tag("span", evidence.classes[column], class_="said"),
            *(counts[name][row, column] for name in counts),
        )
        for row, column in pairs
    ]
    return join(tag("h3", "Commonest mistakes"), table(["label", "taken for", *counts], lines))
