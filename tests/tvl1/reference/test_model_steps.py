"""The twin's steps that the published model has not: taps, edge weights, projection, weighted median."""

from __future__ import annotations

import numpy as np
import pytest

from flowkit.tvl1.params import Pyramid, TVL1Params
from flowkit.tvl1.reference.pyramid import upsample_dual
from flowkit.tvl1.reference.steps import (
    EDGE_WEIGHT_MIN,
    centered_gradient,
    edge_weight,
    five_tap_gradient,
    forward_gradient,
    linearise,
    median_5x5,
    projected_dual_step,
    still_blocks,
    weighted_median,
)
from flowkit.typing import Float64

SHAPES = [(1, 1), (1, 5), (4, 1), (2, 3), (17, 16)]
TAUT = 0.25 / 0.3


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_five_taps_are_exact_for_polynomials_up_to_degree_four(degree: int) -> None:
    # Integers: the sums are exact, and the division by 12 has one rounding.
    y, x = np.indices((9, 11), dtype=np.float64)
    gradient = five_tap_gradient(x**degree + 3 * y**degree)
    slope = degree * np.power(np.stack([x, y]), max(degree - 1, 0)) * np.reshape([1, 3], (2, 1, 1))
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_allclose(gradient[inside], slope[inside], rtol=1e-15, atol=0)


def test_five_taps_are_not_exact_for_degree_five() -> None:
    line = np.arange(7.0)[None] ** 5
    assert five_tap_gradient(line)[0, 0, 3] == 5 * 3**4 - 4  # the error is -4 for x^5 at any x


def test_five_taps_repeat_the_edge_of_the_image() -> None:
    x, y = five_tap_gradient(np.array([[0.0, 1.0, 4.0, 9.0, 25.0]]))
    # (8 (I[1] - I[-1]) - (I[2] - I[-2])) / 12 with I[-2] = I[-1] = I[0], and so on.
    expected = np.array([[8 * 1 - 4, 8 * 4 - 9, 8 * 8 - 25, 8 * 21 - 24, 8 * 16 - 21]]) / 12
    np.testing.assert_allclose(x, expected, rtol=1e-15)
    assert not y.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_both_differences_of_a_transposed_image_are_transposed(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).uniform(0, 255, shape)
    assert np.array_equal(five_tap_gradient(image.T)[::-1], five_tap_gradient(image).transpose(0, 2, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_edge_weight_is_one_on_a_constant_image(shape: tuple[int, int]) -> None:
    # The blur's sum rounds alike at each pixel, up to one digit: 1e-15^.8 of alpha at most.
    np.testing.assert_allclose(edge_weight(np.full(shape, 77.0), 10.0, 0.8), 1, rtol=0, atol=1e-11)


def test_edge_weight_falls_at_a_step_and_nowhere_else() -> None:
    image = np.zeros((9, 20))
    image[:, 10:] = 100
    weight = edge_weight(image, 5.0, 0.8)
    assert weight.min() == weight[4, 9] == pytest.approx(weight[4, 10])
    assert weight[4, 9] < 0.5
    np.testing.assert_allclose(weight[:, :5], 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(weight[:, 15:], 1, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("alpha", "beta"), [(5.0, 0.8), (12.0, 0.5), (0.3, 2.0)])
def test_edge_weight_has_the_value_of_its_equation(alpha: float, beta: float) -> None:
    # A Gaussian leaves a ramp as it is: |grad G I0| = 5 by Pythagoras.
    y, x = np.indices((15, 15), dtype=np.float64)
    weight = edge_weight(3 * x + 4 * y, alpha, beta)
    assert weight[7, 7] == pytest.approx(np.exp(-alpha * (5 / 255) ** beta), rel=1e-12)


def test_edge_weight_of_a_step_has_the_value_computed_by_hand() -> None:
    # Before and after the step's first pixel: G(0) + G(1) of 255, half of it as a central difference.
    image = np.zeros((7, 20))
    image[:, 10:] = 255
    gauss = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.64))
    slope = (gauss[3] + gauss[4]) / gauss.sum() / 2
    assert edge_weight(image, 2.0, 0.8)[3, 10] == pytest.approx(np.exp(-2 * slope**0.8), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 50.0, 1000.0])
def test_edge_weight_stays_above_its_least(alpha: float) -> None:
    image = np.random.default_rng(1).choice([0.0, 255.0], (20, 30))
    weight = edge_weight(image, alpha, 0.8)
    assert weight.min() >= EDGE_WEIGHT_MIN == 1e-3
    assert weight.max() <= 1


def lengths(p: Float64) -> Float64:
    return np.hypot(p[:, 0], p[:, 1])


def test_the_projected_step_keeps_p_within_the_weight() -> None:
    rng = np.random.default_rng(2)
    weight = rng.uniform(EDGE_WEIGHT_MIN, 1, (5, 6))
    p = np.zeros((2, 2, 5, 6))
    for _ in range(50):
        p = projected_dual_step(p, rng.normal(0, 10, (2, 5, 6)), TAUT, weight)
        assert (lengths(p) <= weight * (1 + 1e-15)).all()


def test_within_the_weight_the_projected_step_is_a_gradient_step() -> None:
    rng = np.random.default_rng(3)
    p, u = rng.uniform(-0.2, 0.2, (2, 2, 5, 6)), rng.uniform(-0.1, 0.1, (2, 5, 6))
    assert np.array_equal(projected_dual_step(p, u, TAUT, 1.0), p + TAUT * forward_gradient(u))


def test_beyond_the_weight_the_projected_step_keeps_the_direction() -> None:
    u = np.zeros((2, 2, 2))
    u[0, 0, 1], u[0, 1, 0] = 3.0, 4.0  # gradient (3, 4) at (0, 0): length 5
    p = projected_dual_step(np.zeros((2, 2, 2, 2)), u, 2.0, 0.5)
    np.testing.assert_allclose(p[0, :, 0, 0], [0.3, 0.4], rtol=1e-15)


def test_the_projected_step_on_constant_flow_changes_nothing_the_second_time() -> None:
    rng = np.random.default_rng(4)
    weight = rng.uniform(0.1, 1, (5, 6))
    u = np.full((2, 5, 6), 3.0)
    once = projected_dual_step(rng.normal(0, 1, (2, 2, 5, 6)), u, TAUT, weight)
    np.testing.assert_allclose(projected_dual_step(once, u, TAUT, weight), once, rtol=1e-15)


def alike(side: int = 5, **changes: float) -> TVL1Params:
    """Parameters with which every neighbour in the frame weighs the same, but for changes."""
    weights = {"weighted_median_grey": 1e6, "weighted_median_px": 1e6} | changes
    return TVL1Params(weighted_median=side, **weights)  # type: ignore[arg-type]


def test_with_equal_weights_it_is_the_median_inside_the_frame() -> None:
    rng = np.random.default_rng(5)
    u, I0 = rng.normal(0, 3, (2, 12, 15)), rng.uniform(0, 255, (12, 15))
    inside = np.s_[:, 2:-2, 2:-2]
    assert np.array_equal(weighted_median(u, I0, alike())[inside], median_5x5(u)[inside])


@pytest.mark.parametrize("side", [5, 7])
def test_neighbours_outside_the_frame_weigh_nothing(side: int) -> None:
    rng = np.random.default_rng(6)
    u, I0 = rng.normal(0, 3, (2, 9, 11)), np.full((9, 11), 50.0)
    filtered, reach = weighted_median(u, I0, alike(side)), side // 2
    for y, x in [(0, 0), (0, 5), (8, 10), (4, 0), (1, 9)]:
        window = u[:, max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        values = np.sort(window.reshape(2, -1))
        # Of an even number of equal weights a rounding decides which of the middle two it is.
        count = values.shape[1]
        assert (values[:, (count - 1) // 2] <= filtered[:, y, x]).all()
        assert (filtered[:, y, x] <= values[:, count // 2]).all()


@pytest.mark.parametrize("side", [5, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_constant_flow_stays(shape: tuple[int, int], side: int) -> None:
    I0 = np.random.default_rng(7).uniform(0, 255, shape)
    u = np.full((2, *shape), 1.25)
    assert np.array_equal(weighted_median(u, I0, alike(side, weighted_median_grey=7.0)), u)


def test_a_corner_of_the_flow_stays_where_the_image_has_it() -> None:
    corner = np.zeros((15, 15), bool)
    corner[7:, 7:] = True
    u = np.stack([np.where(corner, 2.0, -1.0), np.where(corner, 0.5, 0.0)])
    params = alike(weighted_median_grey=7.0, weighted_median_px=3.0)
    assert np.array_equal(weighted_median(u, np.where(corner, 200.0, 40.0), params), u)
    # The others are sixteen of the 25 about the corner's own pixel.
    assert weighted_median(u, np.full((15, 15), 40.0), params)[0, 7, 7] == -1


def test_an_outlier_takes_the_flow_of_what_looks_like_it() -> None:
    left = np.indices((11, 12))[1] < 6
    u = np.stack([np.where(left, -1.0, 2.0)] * 2)
    u[:, 5, 5] = 9.0
    filtered = weighted_median(u, np.where(left, 200.0, 40.0), alike(weighted_median_grey=7.0))
    assert filtered[0, 5, 5] == -1


def test_near_neighbours_weigh_more_than_far_ones() -> None:
    u = np.full((2, 9, 9), 1.0)
    u[:, 3:6, 3:6] = 5.0  # nine of 25
    near = alike(weighted_median_px=1.0)
    assert weighted_median(u, np.zeros((9, 9)), near)[0, 4, 4] == 5
    assert weighted_median(u, np.zeros((9, 9)), alike())[0, 4, 4] == 1


@pytest.mark.parametrize("side", [5, 7])
def test_flow_that_spreads_less_than_the_threshold_stays(side: int) -> None:
    y, x = np.indices((16, 18), dtype=np.float64)
    u = np.stack([x, y]) * 0.01 + np.random.default_rng(8).uniform(0, 1e-3, (2, 16, 18))
    u[0, 8, 9] += 3
    I0 = np.zeros((16, 18))
    params = TVL1Params(weighted_median=side, weighted_median_spread=0.5)  # type: ignore[arg-type]
    filtered = weighted_median(u, I0, params)
    reach = side // 2
    near = np.zeros((16, 18), bool)
    near[8 - reach : 9 + reach, 9 - reach : 10 + reach] = True
    assert np.array_equal(filtered[:, ~near], u[:, ~near])
    # One component is enough: the other is filtered with it.
    everywhere = weighted_median(u, I0, TVL1Params(weighted_median=side))  # type: ignore[arg-type]
    assert np.array_equal(filtered[:, near], everywhere[:, near])
    assert not np.array_equal(everywhere[:, ~near], u[:, ~near])


def test_the_weighted_median_is_one_of_the_windows_values() -> None:
    rng = np.random.default_rng(9)
    u, I0 = rng.normal(0, 3, (2, 10, 11)), rng.uniform(0, 255, (10, 11))
    filtered = weighted_median(u, I0, TVL1Params(weighted_median=7))
    assert all(np.isin(filtered[k], u[k]).all() for k in range(2))


PYRAMIDS: list[tuple[Pyramid, float]] = [("resize", 0.8), ("pyrdown", 0.5), ("gaussian", 0.5)]


@pytest.mark.parametrize(("pyramid", "step"), PYRAMIDS)
def test_the_dual_variable_of_a_finer_level_is_zero_across_the_last_column_and_row(
    pyramid: Pyramid, step: float
) -> None:
    p = np.random.default_rng(10).uniform(-0.7, 0.7, (2, 2, 9, 12))
    fine = upsample_dual(p, (17, 23), TVL1Params(pyramid=pyramid, scale_step=step))
    assert fine.shape == (2, 2, 17, 23)
    assert not fine[:, 0, :, -1].any()
    assert not fine[:, 1, -1, :].any()
    assert fine[:, 0, :-1, :-1].all()
    assert not upsample_dual(0 * p, (17, 23), TVL1Params(pyramid=pyramid, scale_step=step)).any()


@pytest.mark.parametrize(("pyramid", "step"), PYRAMIDS[:2])
def test_the_dual_variable_of_a_finer_level_is_no_longer_than_one(pyramid: Pyramid, step: float) -> None:
    # Bilinear samples are means, and the unit disc is convex; the bicubic ones of "gaussian" overshoot.
    angle = np.random.default_rng(11).uniform(0, 2 * np.pi, (2, 9, 12))
    p = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    fine = upsample_dual(p, (17, 23), TVL1Params(pyramid=pyramid, scale_step=step))
    assert lengths(fine).max() <= 1 + 1e-15


def test_three_taps_and_five_agree_on_a_ramp() -> None:
    y, x = np.indices((9, 9), dtype=np.float64)
    inside = np.s_[:, 2:-2, 2:-2]
    image = 3 * x - 2 * y
    np.testing.assert_allclose(five_tap_gradient(image)[inside], centered_gradient(image)[inside], rtol=1e-15)


def test_close_to_a_whole_pixel_the_residual_is_linearised_there() -> None:
    rng = np.random.default_rng(12)
    I0, I1 = rng.uniform(0, 255, (2, 8, 9))
    planes = np.concatenate([I1[None], centered_gradient(I1)])
    u = np.stack([np.full((8, 9), 1.09), np.full((8, 9), -0.3)])
    at = np.stack([np.full((8, 9), 1.0), np.full((8, 9), -0.3)])
    snapped = linearise(I0, planes, u, TVL1Params(warp_snap=0.1))
    there = linearise(I0, planes, at, TVL1Params())
    assert np.array_equal(snapped.gradient, there.gradient)
    assert np.array_equal(snapped.rho_c, there.rho_c)
    apart = linearise(I0, planes, u, TVL1Params(warp_snap=0.08))
    assert np.array_equal(apart.rho_c, linearise(I0, planes, u, TVL1Params()).rho_c)


def test_blocks_are_still_up_to_their_own_areas_change() -> None:
    # 16 + 4 columns, 16 + 1 rows; a change of .5 px at one pixel of each block.
    u, at = np.zeros((2, 17, 20)), ([0, 0, 16, 16], [3, 18, 3, 18])
    moved = u.copy()
    moved[1][at] = 0.5
    for area, count in ((256, 1), (64, 2), (16, 3), (4, 4)):
        assert still_blocks(moved, u, 0.5 / area**0.5 * 1.001)[at].sum() == count
    assert not still_blocks(moved, u, 0.5 / 256**0.5 * 0.999).any()
    assert still_blocks(u, u, 0.01).all()
