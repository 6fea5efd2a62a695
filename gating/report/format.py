"""Text of numbers and results on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gating.evaluation.comparison import Gain, TrialComparison

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in [0, 1] as per cent, without the sign of per cent."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:.{digits}f}"


def points(difference: float, digits: int = 1) -> str:
    """Return a difference of fractions in points of per cent, with its sign."""
    if math.isnan(difference):
        return NOTHING
    text = f"{abs(100 * difference):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if difference > 0 else _MINUS
    return sign + text


def span(low: float, high: float) -> str:
    """Return an interval of fractions, in per cent."""
    return f"{percent(low)} to {percent(high)}"


def span_of_points(low: float, high: float) -> str:
    """Return an interval of differences, in points."""
    return f"{points(low)} to {points(high)}"


def chance(p_value: float) -> str:
    """Return a p-value."""
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.2g}"


def number(value: float, digits: int = 2) -> str:
    """Return a number, or a dash for none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def shortened(name: str, most: int = 18) -> str:
    """Return a name of at most `most` letters."""
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, `one` in the singular."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def span_of_chances(p_values: Sequence[float]) -> str:
    """Return the smallest and the largest of some p-values, or one where their texts are equal."""
    low, high = chance(min(p_values)), chance(max(p_values))
    return high if low == high else f"{low} to {high}"


def verdict(gain: Gain) -> str:
    """Return one sentence about the gate: better, worse, or not to be distinguished."""
    low, high = gain.interval
    if low > 0:
        result = "better than the best fixed weights"
    elif high < 0:
        result = "worse than the best fixed weights"
    else:
        result = "no better and no worse than the best fixed weights, as far as these clips show"
    return (
        f"The gate is {result}: {points(gain.mean)} points of top-1, "
        f"95 % interval {span_of_points(low, high)}."
    )


def preference(comparisons: Sequence[TrialComparison]) -> str:
    """Return the preference of the validation clips, which `predict` follows."""
    by = "Out-of-fold validation" if comparisons[0].is_out_of_fold else "Validation"
    prefer = sum(one.prefers_gate for one in comparisons)
    if prefer == len(comparisons):
        return f"{by} prefers the gate, so predict uses it."
    if prefer == 0:
        return f"{by} does not prefer the gate, so predict uses the fixed weights."
    return (
        f"{by} prefers the gate in {prefer} of {len(comparisons)} trials: predict uses it with those, "
        "and the fixed weights with the others."
    )
