"""In which classes the gate is better than the best fixed weights, and in which worse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gating.config import BASELINE, GATING
from gating.report import charts
from gating.report.evidence import Evidence
from gating.report.markup import Html, note, section, tag
from gating.report.wording import percent, points

_SHOWN = 12


def class_gain_section(evidence: Evidence) -> Html:
    """Return a bar for each class, the greatest gain first; of many classes both ends."""
    gain, clips = class_gains(evidence)
    accuracy = {
        name: evidence.confusion(name).diagonal() / np.maximum(1, clips) for name in (GATING, BASELINE)
    }
    order = [int(k) for k in np.argsort(-gain, kind="stable") if clips[k]]
    most = max((abs(float(gain[k])) for k in order), default=0.0)

    def line(k: int) -> Html:
        told = (
            f"{evidence.classes[k]}: {percent(accuracy[GATING][k])} % by the gate, "
            f"{percent(accuracy[BASELINE][k])} % by the weights, of {clips[k]} answers"
        )
        bar = charts.signed_bar(float(gain[k]), most=most, label=told)
        return charts.row(evidence.classes[k], bar, points(float(gain[k])), title=told)

    better = int((gain[order] > 0).sum())
    worse = int((gain[order] < 0).sum())
    return section(
        "Gain of the gate in each class",
        note(
            f"Points of accuracy over the best fixed weights, over all trials: better in {better} classes, "
            f"worse in {worse}, alike in {len(order) - better - worse}."
        ),
        *_ends([line(k) for k in order]),
    )


def class_gains(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each class's gain in accuracy, float64 (C,), and its answers counted, int64 (C,)."""
    gate, fixed = evidence.confusion(GATING), evidence.confusion(BASELINE)
    clips = gate.sum(axis=1)
    return (gate.diagonal() - fixed.diagonal()) / np.maximum(1, clips), clips


def _ends(lines: list[Html]) -> list[Html]:
    if len(lines) <= 2 * _SHOWN + 2:
        return lines
    middle = lines[_SHOWN:-_SHOWN]
    between = tag("details", tag("summary", f"Show all: {len(middle)} classes between"), middle)
    return [*lines[:_SHOWN], between, *lines[-_SHOWN:]]
