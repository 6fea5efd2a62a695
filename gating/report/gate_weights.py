"""What the gate's weights look like: flow's share and the sum, class by class; zeros and fallbacks."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from gating.models.gate import FLOW, GateSummary, summarise
from gating.report import charts
from gating.report.evidence import Evidence
from gating.report.markup import Html, facts, join, note, section, tag
from gating.report.wording import number, percent

Values = NDArray[np.float64]

_BINS = 25
_SHOWN = 14
_HIGH_QUANTILE = 0.99


def gate_weights_section(evidence: Evidence) -> Html:
    """Return histograms of the gates, of all clips and of each class."""
    known = [one for one in evidence.judgements if one.scores.gates is not None]
    gates = np.concatenate([one.scores.gates for one in known if one.scores.gates is not None])
    labels = np.concatenate([one.scores.labels for one in known])
    search = float(np.mean([one.search_share for one in known]))
    share = flow_shares(gates)
    return section(
        "What the gate does",
        facts(_facts(summarise(torch.from_numpy(gates)), sum(one.fallbacks for one in known), len(gates))),
        tag(
            "div",
            _column(
                "Flow's share of the two weights, 0 to 1",
                f"The line is the best fixed weights' share, {search:.2f}; the number is the median. "
                "Classes that rest on motion most come first.",
                _histograms(evidence, labels, share, top=1.0, mark=search),
            ),
            _column(*_sums(evidence, labels, gates.sum(axis=1))),
            class_="halves",
        ),
    )


def flow_shares(gates: Values) -> Values:
    """Return g_flow / (g_flow + g_rgb) of gates (N, 2), float64 (N,); NaN where both are zero."""
    total = gates.sum(axis=1)
    shares: Values = np.divide(gates[:, FLOW], total, out=np.full(len(gates), math.nan), where=total > 0)
    return shares


def _facts(told: GateSummary, fallbacks: int, clips: int) -> list[tuple[str, str]]:
    return [
        ("flow's weight is zero", f"{percent(told.zero_flow)} % of clips"),
        ("rgb's weight is zero", f"{percent(told.zero_rgb)} % of clips"),
        ("both are zero", f"{percent(told.zero_both)} % of clips"),
        ("fixed weights served instead", f"{fallbacks} of {clips} answers"),
        ("mean weights", f"flow {number(told.mean_flow)}, rgb {number(told.mean_rgb)}"),
        ("mean sum", f"{number(told.mean_sum)} (fixed weights 1.5 : 1 sum to 2.5)"),
        ("flow : rgb, median", number(told.ratio)),
    ]


def _column(title: str, words: str, lines: Html) -> Html:
    return tag("div", tag("h3", title), note(words), lines)


def _sums(evidence: Evidence, labels: NDArray[np.int64], sums: Values) -> tuple[str, str, Html]:
    # A few outliers would press all else into the first bins.
    top = max(1e-6, float(np.quantile(sums, _HIGH_QUANTILE)) * 1.05)
    words = (
        f"The last bar holds all larger ones, {percent(float((sums > top).mean()))} % of the clips. "
        "A sum far above 2.5 tells that the streams score the clips the gate learned from better than others."
    )
    return f"Sum of the weights, 0 to {top:.2g}", words, _histograms(evidence, labels, sums, top=top)


def _histograms(
    evidence: Evidence, labels: NDArray[np.int64], values: Values, *, top: float, mark: float | None = None
) -> Html:
    found = [k for k in range(len(evidence.classes)) if np.isfinite(values[labels == k]).any()]
    found.sort(key=lambda k: -float(np.nanmedian(values[labels == k])))
    lines = [_line(evidence.classes[k], values[labels == k], top, mark) for k in found]
    every = _line("all classes", values, top, mark) if found else note("Every weight is zero.")
    return join(every, charts.rows(lines, shown=_SHOWN, rest="Show all classes"))


def _line(name: str, values: Values, top: float, mark: float | None) -> Html:
    known = values[np.isfinite(values)]
    counts = np.histogram(np.minimum(known, top), bins=_BINS, range=(0, top))[0]
    told = f"{name}: median {number(float(np.median(known)))}, {len(known)} answers"
    return charts.row(
        name,
        charts.histogram(counts.tolist(), label=told, mark=mark),
        number(float(np.median(known))),
        title=told,
    )
