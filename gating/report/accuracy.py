"""The table of all fusions."""

from __future__ import annotations

import math

from gating.evaluation.comparison import FusionRow, Gain
from gating.fusions import Kind, in_order, kind_of
from gating.report import charts
from gating.report.evidence import Evidence
from gating.report.markup import Html, cells, note, section, table, tag
from gating.report.wording import (
    number,
    percent,
    points,
    shortened,
    span,
    span_of_points,
)

_AXIS_STEP = 0.05


def accuracy_table(evidence: Evidence) -> Html:
    """Return the table of fusions by kind, the oracle last."""
    axis = axis_of(evidence.rows)
    over = {gain.rival: gain for gain in evidence.gains}
    lines = [_line(name, evidence.rows[name], over.get(name), axis) for name in in_order(evidence.rows)]
    head = [
        "fusion",
        "kind",
        "top-1, %",
        f"95 % interval, on {percent(axis[0], 0)} to {percent(axis[1], 0)} %",
        "mean class, %",
        "spread over seeds",
        "calibration error",
        "gain of the gate, points",
    ]
    return section(
        "All fusions of the same streams",
        table(head, lines, class_="figures accuracy"),
        note(
            "Top-1 and mean class accuracy are means over seeds and splits; the interval is a bootstrap over "
            "seed and clip, the spread a standard deviation in points. The oracle is right where either "
            "stream is: it reads the labels and is a bound, no method. Searched weights sum to 1 and are "
            "chosen by accuracy alone, so that their calibration error tells of their scale."
        ),
    )


def axis_of(rows: dict[str, FusionRow]) -> tuple[float, float]:
    """Return a range of round shares that all intervals lie in."""
    low = min(row.interval[0] for row in rows.values())
    high = max(row.interval[1] for row in rows.values())
    start = max(0.0, math.floor(low / _AXIS_STEP) * _AXIS_STEP)
    return start, max(start + _AXIS_STEP, min(1.0, math.ceil(high / _AXIS_STEP) * _AXIS_STEP))


def _line(name: str, row: FusionRow, gain: Gain | None, axis: tuple[float, float]) -> Html:
    kind = kind_of(name)
    drawn = charts.interval(row.top1, *row.interval, axis=axis, label=f"{name}: {span(*row.interval)} %")
    line = cells(
        tag("strong", shortened(name, 40)),
        "a bound, no method" if kind == Kind.BOUND else kind,
        percent(row.top1),
        tag("span", drawn, tag("small", span(*row.interval)), class_="ranged"),
        percent(row.mean_class),
        number(100 * row.spread),
        number(row.calibration_error, 3),
        None if gain is None else tag("span", points(gain.mean), title=span_of_points(*gain.interval)),
    )
    chosen = {Kind.GATE: "chosen", Kind.BOUND: "bound"}.get(kind)
    return Html(line.replace("<tr>", f'<tr class="{chosen}">', 1)) if chosen else line
