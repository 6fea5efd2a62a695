"""A scatter plot as SVG text: both axes logarithmic, a label at each point, the best points joined."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 960, 600
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 50, 60
LETTER, LINE = 6.2, 13.0
"""Size of a letter of 11 px, px."""

COLOURS = ("#c0392b", "#2c6fbb", "#777777", "#3a8f3a", "#8e5bb0")
STEPS = (1, 2, 5)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A point, its label, and the group that gives its colour."""

    name: str
    x: float
    y: float
    group: str


Box = tuple[float, float, float, float]


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points of which no other is at once further left and lower, from the left."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.x, each.y)):
        if not best or point.y < best[-1].y:
            best.append(point)
    return best


def axis(values: Sequence[float], low: float, high: float) -> tuple[Callable[[float], float], list[float]]:
    """Return the address of a value between two ends, px, logarithmic, and the ticks between them."""
    first, last = math.log10(min(values)) - 0.08, math.log10(max(values)) + 0.08
    decades = range(math.floor(first), math.ceil(last) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in STEPS]

    def at(value: float) -> float:
        return low + (math.log10(value) - first) / (last - first) * (high - low)

    return at, [tick for tick in ticks if first <= math.log10(tick) <= last]


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def label_boxes(places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Box]:
    """Return where each label goes: beside its point where it hides no point and no earlier label."""
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    found = []
    for (x, y), name in zip(places, names, strict=True):
        width = LETTER * len(name)
        lefts = (x + 8, x - 8 - width, x - width / 2)
        tries = [
            (left, y - LINE / 2 + down, left + width, y + LINE / 2 + down)
            for down in (0, -14, 14, -28, 28, -42, 42)
            for left in lefts[: 2 if down == 0 else 3]
        ]
        inside = [box for box in tries if box[0] >= LEFT and box[2] <= WIDTH]
        free = (box for box in inside if not any(overlap(box, other) for other in taken))
        chosen = next(free, tries[0])
        taken.append(chosen)
        found.append(chosen)
    return found


def scatter(points: Sequence[Point], *, title: str, x_label: str, y_label: str, joined: Sequence[str]) -> str:
    """Return the plot; the best points of the groups `joined` are joined by a line."""
    across, x_ticks = axis([point.x for point in points], LEFT, WIDTH - RIGHT)
    up, y_ticks = axis([point.y for point in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 24, title, size=15),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, x_label, anchor="middle", size=13),
        f'<g transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">'
        f"{text(0, 0, y_label, anchor='middle', size=13)}</g>",
    ]
    for tick in x_ticks:
        parts.append(line((across(tick), TOP), (across(tick), HEIGHT - BOTTOM)))
        parts.append(text(across(tick), HEIGHT - BOTTOM + 18, f"{tick:g}", anchor="middle"))
    for tick in y_ticks:
        parts.append(line((LEFT, up(tick)), (WIDTH - RIGHT, up(tick))))
        parts.append(text(LEFT - 8, up(tick) + 4, f"{tick:g}", anchor="end"))
    best = front([point for point in points if point.group in joined])
    corners = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in best)
    parts.append(f'<polyline points="{corners}" fill="none" stroke="{COLOURS[0]}" stroke-opacity=".35"/>')
    groups = list(dict.fromkeys(point.group for point in points))
    places = [(across(point.x), up(point.y)) for point in points]
    boxes = label_boxes(places, [point.name for point in points])
    for point, (x, y), box in zip(points, places, boxes, strict=True):
        colour = COLOURS[groups.index(point.group) % len(COLOURS)]
        middle = (box[1] + box[3]) / 2
        if abs(middle - y) > 1:  # moved away from its point
            parts.append(line((x, y), (min(max(x, box[0]), box[2]), middle), colour="#999999"))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        parts.append(text(box[0], box[3] - 3, point.name))
    for number, group in enumerate(groups):
        x = WIDTH - RIGHT - 190
        parts.append(f'<circle cx="{x}" cy="{TOP + 12 + 18 * number}" r="4" fill="{COLOURS[number % 5]}"/>')
        parts.append(text(x + 10, TOP + 16 + 18 * number, group))
    return "\n".join([*parts, "</svg>\n"])


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(words)}</text>'
    )


def line(start: tuple[float, float], end: tuple[float, float], *, colour: str = "#dddddd") -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
