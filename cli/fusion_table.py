"""The table of fusions, as `flowkit train` and `flowkit eval` print it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .streams import echo

if TYPE_CHECKING:
    from gating import FusionResults, TrialResults

_HEAD = ("fusion", "top-1 %", "95 % interval", "mean class %", "spread", "gating's gain", "95 % interval")
_WITHOUT_GATE = 5
_GAP = "  "


def print_table(results: FusionResults, *, streams: Mapping[str, str] | None = None) -> None:
    """Print each fusion's accuracy, the gate's gain over it, and tests.

    Parameters
    ----------
    results
        Of a run.
    streams
        Names of the streams that stand for "rgb" and "flow", where they are others.
    """
    rows = [_HEAD, *_rows(results, streams or {})]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    if not results.gains:
        widths = widths[:_WITHOUT_GATE]  # `zip` drops the columns of the gate
    for row in rows:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        echo(_GAP.join([first, *others]).rstrip())
    for line in _notes(results):
        echo(line)


def _rows(results: FusionResults, streams: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each fusion, by kind: the gate and then the bound last."""
    from gating.config import CHOSEN
    from gating.fusions import Kind, in_order, kind_of

    gains = {gain.baseline: gain for gain in results.gains}
    # Of one stream alone, which is what each trial chose.
    names = {*results.fusions} - {CHOSEN} if len(results.fusions) == 2 else results.fusions
    for name in in_order(names):
        row, gain = results.fusions[name], gains.get(name)
        about = "to read only" if kind_of(name) == Kind.BOUND else streams.get(name)
        yield (
            f"{name} ({about})" if about else name,
            _percent(row.top1),
            _interval(row.interval),
            _percent(row.mean_class),
            "" if math.isnan(row.spread) else _percent(row.spread),
            "" if gain is None else _signed(gain.mean),
            "" if gain is None else _interval(gain.interval, signed=True),
        )


def _notes(results: FusionResults) -> Iterator[str]:
    from gating.config import BASELINE

    trials = results.trials
    parts = {(one.split, one.part) for one in trials}
    seeds = {one.seed for one in trials}
    if results.is_out_of_fold:
        yield "\nout-of-fold scores of the training clips (every clip trains): no test"
    yield (
        f"\ntrials {len(trials)}, tested parts {len(parts)}, seeds {len(seeds)}; intervals: bootstrap over "
        "seed and clip; spread: standard deviation over seeds"
    )
    gain = next((one for one in results.gains if one.baseline == BASELINE), None)
    if gain is None:
        return
    # A gate behind the best fixed weights has gone none of the way; NaN is not above zero either.
    headroom = f", {100 * results.headroom:.0f} % of the way to the oracle" if results.headroom >= 0 else ""
    each = ", ".join(_signed(one) for one in gain.per_seed)
    yield f"gating against the best fixed weights (search): {_signed(gain.mean)} points ({each}){headroom}"
    yield from _mcnemar_lines(trials)
    yield _gates_line(trials)
    yield _preference_line(trials)


def _mcnemar_lines(trials: Sequence[TrialResults]) -> Iterator[str]:
    """Yield McNemar's test of each split and seed; the folds of a split hold different clips and add up."""
    first: Counter[tuple[str, int]] = Counter()
    second: Counter[tuple[str, int]] = Counter()
    for one in trials:
        if one.mcnemar is not None:
            first[one.split, one.seed] += one.mcnemar.only_first
            second[one.split, one.seed] += one.mcnemar.only_second
    for split, seed in sorted({*first, *second}):
        alone, other = first[split, seed], second[split, seed]
        yield (
            f"  {split}, seed {seed}: right with gating alone {alone}, with search alone {other}, "
            f"McNemar's p = {_chance(alone, other):.2g}"
        )


def _chance(alone: int, other: int) -> float:
    import numpy as np

    from gating.statistics import mcnemar

    # Clips that both have right, or both wrong, do not count in the test.
    right = np.repeat([True, False], [alone, other])
    return mcnemar(right, ~right).p_value


def _gates_line(trials: Sequence[TrialResults]) -> str:
    known = [one.gates for one in trials if one.gates is not None]
    names = ("mean_flow", "mean_rgb", "mean_sum", "zero_flow", "zero_rgb", "zero_both")
    means = {name: sum(getattr(one, name) for one in known) / len(known) for name in names}
    fallbacks, clips = sum(one.fallbacks for one in trials), sum(one.clips for one in trials)
    return (
        f"gates: flow {means['mean_flow']:.2f} + rgb {means['mean_rgb']:.2f} = {means['mean_sum']:.2f}; "
        f"zero: flow {_percent(means['zero_flow'])} %, rgb {_percent(means['zero_rgb'])} %, both "
        f"{_percent(means['zero_both'])} %; fixed weights served {fallbacks} of {clips} clips"
    )


def _preference_line(trials: Sequence[TrialResults]) -> str:
    preferring = sum(one.prefers_gate for one in trials)
    by = "out-of-fold scores prefer" if trials[0].kind == "all" else "validation prefers"
    line = f"{by} the gate to the best fixed weights in {preferring} of {len(trials)} trials"
    return line if preferring == len(trials) else f"{line}; `flowkit predict` uses the fixed ones elsewhere"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _interval(ends: Sequence[float], *, signed: bool = False) -> str:
    return " to ".join((_signed if signed else _percent)(end) for end in ends)
