"""Each section of the page: from the evidence to the texts, numbers and charts that its template shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gating.config import BASELINE, GATING, ORACLE
from gating.evaluation.comparison import FusionRow, Gain, TrialComparison
from gating.fusions import Kind, in_order, kind_of, probabilities_of
from gating.metrics import GateSummary, summarise_gates
from gating.report import charts
from gating.report.data import Evidence, class_gains, commonest_mistakes, flow_fractions, paired_tests
from gating.report.format import (
    NOTHING,
    chance,
    counted,
    number,
    percent,
    points,
    preference,
    shortened,
    span,
    span_of_chances,
    span_of_points,
    verdict,
)
from gating.run_folder import RunContext
from gating.statistics import McNemar, calibration, headroom_fraction, top1

Values = NDArray[np.float64]
Pairs = list[tuple[str, str]]

_CLASSES_SHOWN = 12
_GATES_SHOWN = 14
_GATE_BINS = 25
_HIGH_QUANTILE = 0.99
_MANY_CLASSES = 20
_FEW_TRIALS = 12


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """The verdict on the gate against the best fixed weights; empty without a gate.

    `streams` says what stands for rgb and flow where these are streams of other tools; `warning` is of a run
    without a test, empty for others. `tiles` are names, values, and their intervals or counts.
    """

    sizes: str
    streams: tuple[str, ...] = ()
    warning: str = ""
    verdict: str = ""
    tiles: tuple[tuple[str, str, str], ...] = ()


def headline(evidence: Evidence) -> Headline:
    """Return the verdict and the numbers behind it."""
    gain, rows = evidence.over_baseline(), evidence.rows
    streams, warning = _streams(evidence.context), _warning(evidence)
    if gain is None:
        return Headline(sizes=_sizes(evidence), streams=streams, warning=warning)
    tests = paired_tests(evidence.comparisons)
    tiles = (
        ("gating, top-1", f"{percent(rows[GATING].top1)} %", span(*rows[GATING].interval)),
        ("best fixed weights", f"{percent(rows[BASELINE].top1)} %", span(*rows[BASELINE].interval)),
        ("gain, points", points(gain.mean), span_of_points(*gain.interval)),
        ("McNemar's p", span_of_chances([one.p_value for one in tests]), _alone(tests)),
        ("headroom taken", _headroom(rows), "of the way from fixed weights to the oracle"),
    )
    words = f"{verdict(gain)} {preference(evidence.comparisons)}"
    sizes = _sizes(evidence)
    return Headline(sizes=sizes, streams=streams, warning=warning, verdict=words, tiles=tiles)


def _streams(context: RunContext) -> tuple[str, ...]:
    """Return lines on the inputs of a run of `gating.fuse`."""
    inputs = context.data.get("inputs")
    lines = [*inputs.values(), context.data.get("gate")] if isinstance(inputs, Mapping) else []
    return tuple(line for line in lines if isinstance(line, str))


def _warning(evidence: Evidence) -> str:
    if not evidence.comparisons[0].is_out_of_fold:
        return ""
    return (
        "Every clip trained: these are out-of-fold scores of the training clips, by networks and fusions "
        "that did not learn from them. There is no test."
    )


def _sizes(evidence: Evidence) -> str:
    comparisons = evidence.comparisons
    clips = len({(one.split, video_id) for one in comparisons for video_id in one.scores.ids})
    words = [
        counted(clips, "training clip" if comparisons[0].is_out_of_fold else "test clip"),
        counted(len(evidence.classes), "class", "classes"),
        counted(len({one.split for one in comparisons}), "split"),
        counted(len({one.seed for one in comparisons}), "seed"),
        f"compared {evidence.context.compared:%Y-%m-%d %H:%M} UTC",
    ]
    return ", ".join(words)


def _alone(tests: Sequence[McNemar]) -> str:
    if len(tests) == 1:
        return f"right alone: the gate on {tests[0].only_first} clips, the weights on {tests[0].only_second}"
    return f"of each split and seed on its own, {len(tests)} tests"


def _headroom(rows: dict[str, FusionRow]) -> str:
    if ORACLE not in rows:
        return NOTHING
    text = percent(headroom_fraction(rows[GATING].top1, rows[BASELINE].top1, rows[ORACLE].top1), 0)
    return text if text == NOTHING else f"{text} %"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyRow:
    """A fusion in the table of all; `mark` sets its line off, `gain` is the gate's over it, in points."""

    name: str
    mark: str | None
    kind: str
    top1: str
    interval: charts.Strip
    span: str
    mean_class: str
    spread: str
    calibration_error: str
    gain: str
    gain_span: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """The table of fusions by kind, the oracle last; the ends of the intervals' axis, per cent."""

    start: str
    end: str
    rows: list[AccuracyRow]


def accuracy(evidence: Evidence) -> Accuracy:
    """Return the table of all fusions."""
    axis = charts.axis_of(evidence.rows)
    over = {gain.baseline: gain for gain in evidence.gains}
    names = in_order(evidence.rows)
    rows = [_accuracy_row(name, evidence.rows[name], over.get(name), axis) for name in names]
    given = evidence.context.data.get("streams")
    if isinstance(given, Mapping):  # of other tools, in the places of rgb and flow
        own = [f"{name} ({given[name]})" if name in given else name for name in names]
        rows = [
            dataclasses.replace(row, name=shortened(name, 40)) for row, name in zip(rows, own, strict=True)
        ]
    return Accuracy(start=percent(axis[0], 0), end=percent(axis[1], 0), rows=rows)


def _accuracy_row(name: str, row: FusionRow, gain: Gain | None, axis: tuple[float, float]) -> AccuracyRow:
    text, kind = span(*row.interval), kind_of(name)
    return AccuracyRow(
        name=shortened(name, 40),
        mark={Kind.GATE: "chosen", Kind.BOUND: "bound"}.get(kind),
        kind="a bound, no method" if kind == Kind.BOUND else kind,
        top1=percent(row.top1),
        interval=charts.interval(row.top1, *row.interval, axis=axis, label=f"{name}: {text} %"),
        span=text,
        mean_class=percent(row.mean_class),
        spread=number(100 * row.spread),
        calibration_error=number(row.calibration_error, 3),
        gain="" if gain is None else points(gain.mean),
        gain_span="" if gain is None else span_of_points(*gain.interval),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClassGain:
    """A bar for each class, the greatest gain first, and the numbers of classes by the gain's sign."""

    better: int
    worse: int
    alike: int
    rows: charts.Rows


def class_gain(evidence: Evidence) -> ClassGain:
    """Return the gate's gain over the best fixed weights by class."""
    gain, clips = class_gains(evidence)
    accuracy = {
        name: evidence.confusion(name).diagonal() / np.maximum(1, clips) for name in (GATING, BASELINE)
    }
    order = [int(k) for k in np.argsort(-gain, kind="stable") if clips[k]]
    most = max((abs(float(gain[k])) for k in order), default=0.0)

    def line(k: int) -> charts.Row:
        label = (
            f"{evidence.classes[k]}: {percent(accuracy[GATING][k])} % by the gate, "
            f"{percent(accuracy[BASELINE][k])} % by the weights, of {clips[k]} predictions"
        )
        bar = charts.signed_bar(float(gain[k]), most=most, label=label)
        return charts.Row(name=evidence.classes[k], strip=bar, value=points(float(gain[k])))

    better, worse = int((gain[order] > 0).sum()), int((gain[order] < 0).sum())
    rows = _both_ends([line(k) for k in order])
    return ClassGain(better=better, worse=worse, alike=len(order) - better - worse, rows=rows)


def _both_ends(lines: list[charts.Row]) -> charts.Rows:
    if len(lines) <= 2 * _CLASSES_SHOWN + 2:
        return charts.Rows(first=lines)
    middle = lines[_CLASSES_SHOWN:-_CLASSES_SHOWN]
    return charts.Rows(
        first=lines[:_CLASSES_SHOWN],
        folded=middle,
        summary=f"Show all: {len(middle)} classes between",
        last=lines[-_CLASSES_SHOWN:],
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Histograms:
    """A histogram of all classes, and of each; neither where no clip has a value."""

    every: charts.Row | None
    classes: charts.Rows


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """The gate's weights: facts of all clips, flow's fraction of the two and their sum.

    `search` is the best fixed weights' fraction; sums `above` the `top` of their axis are per cent.
    """

    facts: Pairs
    search: str
    fractions: Histograms
    top: str
    above: str
    sums: Histograms


def gates(evidence: Evidence) -> Gates | None:
    """Return the gate's weights and their sums; None where no gates were kept."""
    known = [one for one in evidence.comparisons if one.scores.gates is not None]
    if not known:
        return None
    weights = np.concatenate([one.scores.gates for one in known if one.scores.gates is not None])
    labels = np.concatenate([one.scores.labels for one in known])
    search = float(np.mean([one.search_fraction for one in known]))
    fallbacks = sum(one.fallbacks for one in known)
    sums = weights.sum(axis=1)
    # A few outliers would press all else into the first bins.
    top = max(1e-6, float(np.quantile(sums, _HIGH_QUANTILE)) * 1.05)
    return Gates(
        facts=_gate_facts(summarise_gates(torch.from_numpy(weights)), fallbacks, len(weights)),
        search=f"{search:.2f}",
        fractions=_histograms(evidence, labels, flow_fractions(weights), top=1.0, mark=search),
        top=f"{top:.2g}",
        above=percent(float((sums > top).mean())),
        sums=_histograms(evidence, labels, sums, top=top),
    )


def _gate_facts(summary: GateSummary, fallbacks: int, clips: int) -> Pairs:
    return [
        ("flow's weight is zero", f"{percent(summary.zero_flow)} % of clips"),
        ("rgb's weight is zero", f"{percent(summary.zero_rgb)} % of clips"),
        ("both are zero", f"{percent(summary.zero_both)} % of clips"),
        ("fixed weights served instead", f"{fallbacks} of {clips} predictions"),
        ("mean weights", f"flow {number(summary.mean_flow)}, rgb {number(summary.mean_rgb)}"),
        ("mean sum", f"{number(summary.mean_sum)} (fixed weights 1.5 : 1 sum to 2.5)"),
        ("flow : rgb, median", number(summary.ratio)),
    ]


def _histograms(
    evidence: Evidence, labels: NDArray[np.int64], values: Values, *, top: float, mark: float | None = None
) -> Histograms:
    found = [k for k in range(len(evidence.classes)) if np.isfinite(values[labels == k]).any()]
    found.sort(key=lambda k: -float(np.nanmedian(values[labels == k])))
    lines = [_histogram(evidence.classes[k], values[labels == k], top, mark) for k in found]
    every = _histogram("all classes", values, top, mark) if found else None
    if len(lines) <= _GATES_SHOWN + 2:
        return Histograms(every=every, classes=charts.Rows(first=lines))
    more = lines[_GATES_SHOWN:]
    summary = f"Show all classes ({len(more)} more)"
    return Histograms(
        every=every, classes=charts.Rows(first=lines[:_GATES_SHOWN], folded=more, summary=summary)
    )


def _histogram(name: str, values: Values, top: float, mark: float | None) -> charts.Row:
    known = values[np.isfinite(values)]
    counts = np.histogram(np.minimum(known, top), bins=_GATE_BINS, range=(0, top))[0]
    median = number(float(np.median(known)))
    label = f"{name}: median {median}, {len(known)} predictions"
    return charts.Row(
        name=name, strip=charts.histogram(counts.tolist(), label=label, mark=mark), value=median
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Matrices, those of the streams folded away where classes are many, and the commonest mistakes.

    A mistake is a label, the predicted class, and its count by each of `names`.
    """

    matrices: list[charts.Matrix]
    folded: list[charts.Matrix]
    names: list[str]
    mistakes: list[tuple[str, str, list[int]]]


def confusion(evidence: Evidence) -> Confusion:
    """Return a matrix of the gate, the best fixed weights and both streams."""
    classes = evidence.classes
    counts = {name: evidence.confusion(name) for name in evidence.shown}
    drawn = {name: charts.matrix(name, counts[name], classes) for name in counts}
    fused = [drawn.pop(name) for name in (GATING, BASELINE) if name in drawn]
    streams = list(drawn.values())
    many = len(classes) > _MANY_CLASSES
    return Confusion(
        matrices=fused if many else [*fused, *streams],
        folded=streams if many else [],
        names=list(counts),
        mistakes=[
            (classes[label], classes[taken], [int(counts[name][label, taken]) for name in counts])
            for label, taken in commonest_mistakes(evidence)
        ],
    )


def reliability(evidence: Evidence) -> list[charts.Reliability]:
    """Return a diagram for each stream, the best fixed weights and the gate."""
    labels = evidence.labels
    return [
        charts.reliability(name, calibration(probabilities_of(name, evidence.fused(name)), labels))
        for name in evidence.shown
    ]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One trial: its split and part, and its numbers in the order of the table's columns."""

    split: str
    part: str
    numbers: tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """A line for each trial; `scrolls` where they are many."""

    rows: list[TrialRow]
    scrolls: bool


def trials(evidence: Evidence) -> Trials:
    """Return the table of trials by split, part and seed."""
    comparisons = sorted(evidence.comparisons, key=lambda one: (one.split, one.part, one.seed))
    return Trials(rows=[_trial_row(one) for one in comparisons], scrolls=len(comparisons) > _FEW_TRIALS)


def _trial_row(one: TrialComparison) -> TrialRow:
    accuracy = {name: top1(scores, one.scores.labels) for name, scores in one.fused.items()}
    lone = one.scores.lone_stream
    numbers = (
        one.seed,
        len(one.scores),
        percent(accuracy[lone or BASELINE]),
        percent(accuracy.get(GATING, math.nan)),
        percent(one.validation.get(lone or BASELINE, math.nan)),
        percent(one.validation.get(GATING, math.nan)),
        lone or ("gate" if one.prefers_gate else "fixed weights"),
        f"{one.search_fraction:.2f}",
        "" if one.test is None else chance(one.test.p_value),
        one.fallbacks,
    )
    return TrialRow(split=one.split, part=one.part, numbers=numbers)
