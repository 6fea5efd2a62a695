from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import (
    build_pyramid,
    gaussian_blur,
    level_sizes,
    pyr_down,
    resize_bilinear,
    upsample_flow,
    zoom_bilinear,
    zoom_in,
    zoom_out,
)

SHAPES = [(1, 1), (2, 3), (15, 15), (16, 16), (26, 34), (1, 1000), (41, 33)]


def image_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).uniform(0, 255, shape)


@pytest.mark.parametrize(
    ("preset", "shape", "expected"),
    [
        ("opencv-cuda", (240, 320), [(240, 320), (192, 256), (154, 205), (123, 164), (98, 131)]),
        ("tsn", (240, 320), [(240, 320), (120, 160), (60, 80), (30, 40)]),
        ("ipol", (240, 320), [(240, 320), (120, 160), (60, 80), (30, 40), (15, 20)]),
        ("accurate", (40, 60), [(40, 60), (32, 48), (26, 38), (21, 30), (17, 24)]),
        # 18 x 0.8 = 14.4: no second level.
        ("opencv-cuda", (18, 100), [(18, 100)]),
        # 2.5 rounds to 2, as cvRound does.
        ("ipol", (1, 1), [(1, 1)]),
    ],
)
def test_level_sizes(preset: str, shape: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert level_sizes(shape, PRESETS[preset]) == expected


def test_level_sizes_round_half_to_even() -> None:
    assert level_sizes((61, 63), TVL1Params(nscales=2, scale_step=0.5))[1] == (30, 32)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_level_has_its_size_and_stays_in_range(preset: str, shape: tuple[int, int]) -> None:
    levels = build_pyramid(image_of(shape), PRESETS[preset])
    assert [level.shape for level in levels] == level_sizes(shape, PRESETS[preset])
    # Bicubic zoom overshoots by a few percent; nothing else may.
    assert min(level.min() for level in levels) > -30
    assert max(level.max() for level in levels) < 285


@pytest.mark.parametrize("preset", PRESETS)
def test_a_flat_image_stays_flat(preset: str) -> None:
    for level in build_pyramid(np.full((50, 70), 93.0), PRESETS[preset]):
        np.testing.assert_allclose(level, 93, rtol=1e-14)


@pytest.mark.parametrize("shape", [(31, 47), (205, 17), (64, 64)])
@pytest.mark.parametrize("step", [0.8, 0.7, 0.5])
def test_resize_down_matches_cv2_called_with_a_factor(shape: tuple[int, int], step: float) -> None:
    image = image_of(shape).astype(np.float32)
    expected = cv2.resize(image, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    size = (expected.shape[0], expected.shape[1])
    actual = resize_bilinear(image.astype(np.float64), size, step=step)
    # cv2 keeps fractions and products in float32: 255 x 2^-24 x a few.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 if step != 0.5 else 1e-4)


@pytest.mark.parametrize("size", [(64, 80), (33, 47), (21, 99)])
def test_resize_to_a_size_matches_cv2(size: tuple[int, int]) -> None:
    image = image_of((30, 41)).astype(np.float32)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    actual = resize_bilinear(image.astype(np.float64), size)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(32, 40), (33, 41), (5, 4), (16, 17)])
def test_pyr_down_matches_cv2(shape: tuple[int, int]) -> None:
    image = image_of(shape).astype(np.float32)
    np.testing.assert_allclose(pyr_down(image.astype(np.float64)), cv2.pyrDown(image), rtol=0, atol=1e-4)


def test_pyr_down_and_zoom_share_their_geometry() -> None:
    # On a ramp, pixel x of the level shows pixel 2x: bringing it up again restores the ramp
    # away from the border, with no shift.
    ramp = np.tile(np.arange(64.0), (64, 1))
    restored = zoom_bilinear(pyr_down(ramp), (64, 64))
    np.testing.assert_allclose(restored[4:-4, 4:-4], ramp[4:-4, 4:-4], rtol=0, atol=1e-12)


def test_resize_and_its_inverse_share_their_geometry() -> None:
    ramp = np.tile(np.arange(80.0), (80, 1))
    restored = resize_bilinear(resize_bilinear(ramp, (64, 64), step=0.8), (80, 80))
    np.testing.assert_allclose(restored[4:-4, 4:-4], ramp[4:-4, 4:-4], rtol=0, atol=1e-12)


def test_ipol_zoom_out_and_in_share_their_geometry() -> None:
    ramp = np.tile(np.arange(64.0), (64, 1))
    restored = zoom_in(zoom_out(ramp, (32, 32), 0.5), (64, 64))
    # The Gaussian reaches 6 px in, the bicubic another 4.
    np.testing.assert_allclose(restored[10:-10, 10:-10], ramp[10:-10, 10:-10], rtol=0, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.8, 1.04])
def test_gaussian_blur_matches_cv2_inside(sigma: float) -> None:
    image = image_of((40, 50))
    radius = int(5 * sigma)
    expected = cv2.GaussianBlur(image, (2 * radius + 1, 2 * radius + 1), sigma)
    inside = np.s_[radius:-radius, radius:-radius]
    np.testing.assert_allclose(gaussian_blur(image, sigma)[inside], expected[inside], rtol=0, atol=1e-9)


def test_gaussian_blur_mirrors_as_ipol_does() -> None:
    row = np.array([[3.0, 5.0, 9.0, 11.0]])
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.5**2))
    kernel /= kernel.sum()
    left = np.array([9.0, 5.0, 3.0, 5.0, 9.0])  # about the first pixel
    right = np.array([5.0, 9.0, 11.0, 11.0, 9.0])  # about the outer edge of the last
    blurred = gaussian_blur(row, 0.5)[0]
    np.testing.assert_allclose(blurred[[0, -1]], [kernel @ left, kernel @ right], rtol=1e-14)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_uniform_flow_is_scaled_by_the_step(preset: str) -> None:
    params = PRESETS[preset]
    flow = np.full((2, 20, 30), [[[1.5]], [[-2.0]]])
    up = upsample_flow(flow, (27, 41), params)
    assert up.shape == (2, 27, 41)
    np.testing.assert_allclose(up[0], 1.5 / params.scale_step, rtol=1e-14)
    np.testing.assert_allclose(up[1], -2.0 / params.scale_step, rtol=1e-14)


def test_fewer_scales_are_honoured() -> None:
    assert len(level_sizes((240, 320), dataclasses.replace(PRESETS["ipol"], nscales=2))) == 2
