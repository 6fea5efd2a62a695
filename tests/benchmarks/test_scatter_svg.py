"""The plot as SVG: well formed, its best points, its axes, labels apart."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from benchmarks.scatter_svg import Point, axis, front, label_boxes, overlap, scatter


def point(x: float, y: float, name: str = "", group: str = "a") -> Point:
    return Point(name=name, x=x, y=y, group=group)


def test_the_front_has_the_points_that_none_beats_in_both() -> None:
    best, beaten = [point(1, 5), point(2, 3), point(9, 1)], [point(2, 4), point(10, 1), point(3, 3)]
    assert front([*beaten, *best]) == best


def test_equal_ratios_are_equally_far_on_an_axis() -> None:
    at, ticks = axis([1.0, 100.0], 0, 500)
    assert at(10) - at(1) == pytest.approx(at(100) - at(10))
    assert ticks == [1, 2, 5, 10, 20, 50, 100]


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    boxes = label_boxes([(200, 200), (204, 203), (208, 206)], ["first", "second", "third"])
    assert not any(overlap(one, other) for one, other in itertools.combinations(boxes, 2))


def test_the_plot_is_xml_with_every_name_escaped() -> None:
    made = scatter(
        [point(3, 0.5, "a < b"), point(30, 1.0, "c", "other")],
        title="t",
        x_label="x",
        y_label="y",
        joined=("a",),
    )
    texts = [element.text for element in ET.fromstring(made).iter("{http://www.w3.org/2000/svg}text")]
    assert {"a < b", "c", "other", "t", "x", "y"} <= set(texts)
