"""Small SVG pieces. A strip stretches to the width that it is given; its text stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

from gating.report.markup import Html, join, tag

HUNDRED = 100.0


def rect(x: float, y: float, width: float, height: float, **more: object) -> Html:
    """Return a rectangle; `title` in `more` becomes what hovering shows."""
    title = more.pop("title", None)
    inner = None if title is None else tag("title", title)
    return tag("rect", inner, x=float(x), y=float(y), width=float(width), height=float(height), **more)


def strip(*shapes: object, label: str, height: float = 10) -> Html:
    """Return a chart 100 units wide that is stretched to its place."""
    return tag(
        "svg",
        *shapes,
        viewBox=f"0 0 100 {height:g}",
        preserveAspectRatio="none",
        class_="strip",
        role="img",
        aria_label=label,
    )


def interval(mean: float, low: float, high: float, *, axis: tuple[float, float], label: str) -> Html:
    """Return a mean with its interval on an axis from `axis[0]` to `axis[1]`."""
    start, end = axis

    def place(value: float) -> float:
        return HUNDRED * min(1.0, max(0.0, (value - start) / (end - start)))

    return strip(
        rect(0, 4.7, HUNDRED, 0.6, class_="axis-line"),
        rect(place(low), 3, max(0.4, place(high) - place(low)), 4, class_="range"),
        rect(min(place(mean), HUNDRED - 1) - 0.5, 0.5, 1, 9, class_="mean"),
        label=label,
    )


def signed_bar(value: float, *, most: float, label: str) -> Html:
    """Return a bar to the right of the middle for a gain, to the left for a loss."""
    length = HUNDRED / 2 * min(1.0, abs(value) / most) if most > 0 else 0.0
    start = HUNDRED / 2 if value >= 0 else HUNDRED / 2 - length
    return strip(
        rect(HUNDRED / 2 - 0.15, 0, 0.3, 10, class_="axis-line"),
        rect(start, 1, length, 8, class_="gain" if value >= 0 else "loss"),
        label=label,
    )


def histogram(counts: Sequence[float], *, label: str, mark: float | None = None, height: float = 24) -> Html:
    """Return bars of equal width, the tallest filling the height.

    Parameters
    ----------
    counts
        Of each bin.
    label
        What it is, for those who cannot see it.
    mark
        Where a line stands, as a share of the width.
    """
    tallest = max(counts, default=0) or 1
    width = HUNDRED / max(1, len(counts))
    bars = [
        rect(k * width, height * (1 - count / tallest), 0.9 * width, height * count / tallest, class_="bar")
        for k, count in enumerate(counts)
        if count
    ]
    line = None if mark is None else rect(HUNDRED * mark - 0.2, 0, 0.4, height, class_="mark-line")
    return strip(
        rect(0, height - 0.4, HUNDRED, 0.4, class_="axis-line"), bars, line, label=label, height=height
    )


def row(name: object, chart: Html, value: object, *, title: str | None = None) -> Html:
    """Return a line of a chart: a name, a strip, and a number."""
    return tag("div", tag("span", name, class_="said"), chart, tag("span", value), class_="row", title=title)


def rows(lines: Sequence[Html], *, shown: int, rest: str) -> Html:
    """Return the first lines, and the rest folded away."""
    if len(lines) <= shown + 2:
        return join(lines)
    more = tag("details", tag("summary", f"{rest} ({len(lines) - shown} more)"), lines[shown:])
    return join(lines[:shown], more)
