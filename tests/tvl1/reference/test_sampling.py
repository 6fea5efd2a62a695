from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowkit.tvl1.reference.sampling import keys_weights, sample_axis_linear, sample_bicubic


@pytest.mark.parametrize("a", [-0.5, -0.75, 0.0, -1.0])
def test_keys_weights_sum_to_one_and_are_exact_at_pixels(a: float) -> None:
    t = np.linspace(0, 1, 33)[:-1]
    weights = np.array(keys_weights(t, a))
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=0, atol=1e-15)
    assert weights[:, 0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("a", [-0.5, -0.75])
def test_keys_weights_follow_the_piecewise_definition(a: float) -> None:
    def kernel(d: float) -> float:  # Keys 1981, equation 4 with the free parameter a
        d = abs(d)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    t = np.array([0.1, 0.37, 0.5, 0.93])
    for tap, weight in zip((-1, 0, 1, 2), keys_weights(t, a), strict=True):
        np.testing.assert_allclose(weight, [kernel(x - tap) for x in t], rtol=0, atol=1e-14)


def test_bicubic_matches_cv2_where_no_tap_leaves_the_frame() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (20, 24)).astype(np.float32)
    # OpenCV 4 rounds positions to 1/32 px; positions that are multiples of it leave float32
    # arithmetic as the only difference.
    x = (rng.integers(2 * 32, 20 * 32, (9, 7)) / 32).astype(np.float32)
    y = (rng.integers(2 * 32, 16 * 32, (9, 7)) / 32).astype(np.float32)
    expected = cv2.remap(image, x, y, cv2.INTER_CUBIC)
    wide = [array.astype(np.float64) for array in (image, x, y)]
    actual = sample_bicubic(wide[0], wide[1], wide[2], -0.75)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-3)  # grey levels


def test_bicubic_at_pixels_returns_them_exactly() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (6, 7))
    y, x = np.mgrid[:6.0, :7.0]
    assert np.array_equal(sample_bicubic(image, x, y, -0.75), image)


def test_bicubic_far_outside_returns_the_edge() -> None:
    image = np.random.default_rng(2).uniform(0, 255, (6, 7))
    x, y = np.array([[-1e9, 1e9, 3.0]]), np.array([[-1e9, 1e9, -1e300]])
    expected = [[image[0, 0], image[-1, -1], image[0, 3]]]
    np.testing.assert_allclose(sample_bicubic(image, x, y, -0.5), expected, rtol=1e-14)


def test_bicubic_taps_outside_take_the_edge() -> None:
    row = np.array([[10.0, 20.0, 40.0]])
    before, here, after, beyond = (w.item() for w in keys_weights(np.array([0.5]), -0.5))
    expected = 10 * (before + here) + 20 * after + 40 * beyond
    actual = sample_bicubic(row, np.array([[0.5]]), np.array([[0.0]]), -0.5)
    np.testing.assert_allclose(actual, [[expected]], rtol=1e-15)


def test_linear_sampling_clamps_and_interpolates() -> None:
    image = np.array([[0.0, 10.0, 30.0]])
    actual = sample_axis_linear(image, np.array([-5.0, 0.25, 1.5, 9.0]), axis=-1)
    assert actual.tolist() == [[0.0, 2.5, 20.0, 30.0]]


def test_linear_sampling_of_one_pixel_repeats_it() -> None:
    assert sample_axis_linear(np.array([[7.0]]), np.array([-1.0, 0.0, 3.0]), axis=0).tolist() == [
        [7.0],
        [7.0],
        [7.0],
    ]
