"""Numbers as the page writes them."""

from __future__ import annotations

import math

NOTHING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share of [0, 1] as per cent, without the sign of per cent."""
    return NOTHING if math.isnan(share) else f"{100 * share:.{digits}f}"


def points(difference: float, digits: int = 1) -> str:
    """Return a difference of shares in points of per cent, with its sign."""
    if math.isnan(difference):
        return NOTHING
    text = f"{abs(100 * difference):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if difference > 0 else _MINUS
    return sign + text


def span(low: float, high: float) -> str:
    """Return an interval of shares, in per cent."""
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
