"""Reliability diagrams: does a confidence of 80 % mean that 80 % of the answers are right."""

from __future__ import annotations

import math

from gating.fusions import probabilities_of
from gating.report.charts import rect
from gating.report.evidence import Evidence
from gating.report.markup import Html, note, section, tag
from gating.report.wording import percent
from gating.statistics import Calibration, calibration

_SIDE, _LEFT, _TOP = 200, 34, 8


def calibration_section(evidence: Evidence) -> Html:
    """Return one diagram for each of the streams, the best fixed weights and the gate."""
    labels = evidence.labels
    figures = [
        _figure(name, calibration(probabilities_of(name, evidence.fused(name)), labels))
        for name in evidence.shown
    ]
    return section(
        "Calibration",
        note(
            "A bar is the accuracy of the answers given with that confidence; on the diagonal the two agree. "
            "Stronger bars hold more answers. Over all trials together, so that the errors may differ a "
            "little from the table's, which are means over trials."
        ),
        tag("div", figures, class_="diagrams"),
    )


def _figure(name: str, told: Calibration) -> Html:
    caption = tag("figcaption", name, tag("small", f" expected error {told.error:.3f}"))
    return tag("figure", caption, reliability_svg(name, told))


def reliability_svg(name: str, told: Calibration) -> Html:
    """Draw one diagram."""
    most = max(1, int(told.counts.max()))
    width = _SIDE / len(told.counts)
    bars = [
        rect(
            _LEFT + k * width,
            _TOP + _SIDE * (1 - accuracy),
            width * 0.92,
            _SIDE * accuracy,
            class_="bar",
            fill_opacity=0.25 + 0.75 * math.sqrt(count / most),
            title=f"confidence {percent(confidence)} %: {percent(accuracy)} % of {count} answers are right",
        )
        for k, (confidence, accuracy, count) in enumerate(
            zip(told.confidence.tolist(), told.accuracy.tolist(), told.counts.tolist(), strict=True)
        )
        if count
    ]
    return tag(
        "svg",
        tag("title", f"Reliability of {name}"),
        rect(_LEFT, _TOP, _SIDE, _SIDE, class_="paper"),
        bars,
        tag("path", d=f"M{_LEFT} {_TOP + _SIDE}L{_LEFT + _SIDE} {_TOP}", class_="diagonal"),
        _ticks(),
        viewBox=f"0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + 34}",
        role="img",
    )


def _ticks() -> list[Html]:
    bottom, middle = _TOP + _SIDE, _SIDE / 2
    found = [
        tag("text", "confidence", x=_LEFT + middle, y=bottom + 29, text_anchor="middle"),
        tag("text", "accuracy", transform=f"translate(9 {_TOP + middle}) rotate(-90)", text_anchor="middle"),
    ]
    for share in (0.0, 0.5, 1.0):
        along = share * _SIDE
        found.append(tag("text", f"{share:g}", x=_LEFT + along, y=bottom + 14, text_anchor="middle"))
        found.append(tag("text", f"{share:g}", x=_LEFT - 5, y=bottom - along + 4, text_anchor="end"))
    return found
