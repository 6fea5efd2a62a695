from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.view import wheel
from flowkit.view.canvas import PAPER
from flowkit.view.wheel import (
    LEGEND_WIDTH,
    colour_wheel,
    disc,
    fitting_scale,
    flow_to_rgb,
    legend,
    magnitude_to_rgb,
    per_step,
)


def one(u: float, v: float, *, max_px: float = 1.0) -> list[int]:
    flow = np.array([[[u]], [[v]]], np.float32)
    return [int(x) for x in flow_to_rgb(flow, max_px=max_px)[0, 0]]


def test_wheel_has_the_papers_steps() -> None:
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    starts = np.cumsum([0, 15, 6, 4, 11, 13])
    names = [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    assert [tuple(int(c) for c in wheel[k]) for k in starts] == names
    # colorcode.cpp: setcols(255, 255*i/RY, 0), setcols(255-255*i/YG, 255, 0), in integers
    assert wheel[1].tolist() == [255, 17, 0]
    assert wheel[16].tolist() == [255 - 42, 255, 0]


def test_no_motion_is_white_and_unknown_is_black() -> None:
    assert one(0, 0) == [255, 255, 255]
    assert one(math.nan, 0) == [0, 0, 0]


def test_right_is_red_down_is_yellow_left_is_cyan_up_is_blue() -> None:
    right, down, left, up = one(1, 0), one(0, 1), one(-1, 0), one(0, -1)
    assert right[0] == 255
    assert max(right[1:]) < 20
    assert min(down[:2]) > 220
    assert down[2] == 0
    assert left[0] == 0
    assert min(left[1:]) > 150
    assert up[2] == 255
    assert max(up[:2]) < 120


@given(st.floats(-math.pi, math.pi), st.floats(0.01, 0.99))
def test_saturation_grows_with_magnitude(angle: float, radius: float) -> None:
    u, v = math.cos(angle), math.sin(angle)
    full, part = one(u, v, max_px=1.001), one(radius * u, radius * v)
    # rounding of two colours, one level each
    for rim, inner in zip(full, part, strict=True):
        assert inner == pytest.approx(255 - radius * (255 - rim), abs=2.5)


def test_beyond_the_scale_is_darker_by_a_quarter() -> None:
    assert one(2, 0)[0] == int(255 * 0.75)
    assert one(2, 0) == one(200, 0)


def reference(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour as the evaluation code does, pixel by pixel."""
    wheel = colour_wheel()
    out = np.zeros((*flow.shape[1:], 3), np.uint8)
    for y, x in np.ndindex(flow.shape[1:]):
        fx, fy = (float(c) for c in flow[:, y, x])
        position = (math.atan2(-fy, -fx) / math.pi + 1) / 2 * 54
        k = int(position)
        for channel in range(3):
            low, high = int(wheel[k][channel]) / 255, int(wheel[(k + 1) % 55][channel]) / 255
            colour = (1 - (position - k)) * low + (position - k) * high
            radius = math.hypot(fx, fy)
            colour = 1 - radius * (1 - colour) if radius <= 1 else colour * 0.75
            out[y, x, channel] = int(255 * colour)
    return out


def test_every_pixel_is_as_the_evaluation_code_has_it() -> None:
    flow = np.random.default_rng(0).normal(0, 0.6, (2, 20, 30)).astype(np.float32)
    found = flow_to_rgb(flow, max_px=1.0)
    assert np.abs(found.astype(int) - reference(flow)).max() <= 1  # float32 against float64, truncated


def test_magnitude_is_dark_at_rest_and_light_at_the_scale() -> None:
    flow = np.zeros((2, 1, 3), np.float32)
    flow[0, 0] = (0, 5, 50)
    still, full, beyond = magnitude_to_rgb(flow, max_px=5)[0].astype(int).sum(axis=1)
    assert still < 20
    assert full > 600
    assert beyond == full


@pytest.mark.parametrize(
    ("high", "scale"), [(0.0, 0.5), (0.3, 0.5), (1.2, 1.5), (7.0, 8.0), (15.0, 15.0), (93.0, 100.0)]
)
def test_scale_is_round_and_holds_the_magnitudes(high: float, scale: float) -> None:
    assert fitting_scale(np.full((4, 4), high, np.float32)) == pytest.approx(scale)


def test_scale_ignores_outliers_and_the_unknown() -> None:
    speeds = np.ones(1000, np.float32)
    speeds[:5], speeds[5:9] = 300, np.nan
    assert fitting_scale(speeds) == 1.0
    assert fitting_scale(np.full(3, np.nan, np.float32)) == 0.5


def test_wrong_shapes_and_scales_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"flow must be \(2, H, W\), got"):
        flow_to_rgb(np.zeros((4, 4, 2), np.float32), max_px=1)
    with pytest.raises(InvalidParameterError, match="max_px"):
        flow_to_rgb(np.zeros((2, 4, 4), np.float32), max_px=0)


def test_disc_shows_the_direction_and_leaves_its_corners_blank() -> None:
    wheel = disc(60)
    assert tuple(wheel[0, 0]) == PAPER
    assert (wheel[30, 30] > 240).all()
    assert wheel[30, 57, 0] > 220
    assert wheel[30, 57, 1] < 80


def test_legend_is_as_tall_as_its_row_and_says_the_scale() -> None:
    assert legend(400, max_px=4).shape == (400, LEGEND_WIDTH, 3)
    assert (legend(400, max_px=4) != legend(400, max_px=8)).any()
    assert len(legend(10, max_px=4)) > 110  # the wheel needs its room


def test_unit_names_the_step() -> None:
    assert (per_step(1), per_step(2)) == ("px/frame", "px/2 frames")


def test_a_large_field_has_the_colours_of_its_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = np.random.default_rng(0).normal(0, 3, (2, 37, 20)).astype(np.float32)
    whole = flow_to_rgb(flow, max_px=4)
    for pixels in (1, 100, 739):
        monkeypatch.setattr(wheel, "_AT_ONCE_PX", pixels)
        np.testing.assert_array_equal(flow_to_rgb(flow, max_px=4), whole)
