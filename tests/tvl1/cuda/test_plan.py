from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.cuda.plan import (
    Resampling,
    TileShape,
    bytes_per_pair,
    flow_upsampling,
    launches,
    presmoothing,
    shrinking,
    tile_level,
)
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import build_pyramid, gaussian_blur, level_sizes, upsample_flow

SIZES = [(45, 57), (16, 16), (61, 83), (1, 1), (1, 40), (2, 3)]

# Weights are single precision, values up to 255.
AGREEMENT = 5e-5


def resampled(image: NDArray[np.float64], *steps: Resampling) -> NDArray[np.float64]:
    for step in steps:
        across, down = step.horizontal, step.vertical
        image = np.sum([w * image[:, i] for i, w in zip(across.index, across.weights, strict=True)], 0)
        taps = zip(down.index, down.weights, strict=True)
        image = step.gain * np.sum([w[:, None] * image[i] for i, w in taps], 0)
    return image


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_tables_make_the_twins_pyramid(preset: str, size: tuple[int, int]) -> None:
    params, image = PRESETS[preset], np.random.default_rng(0).uniform(0, 255, size)
    levels = [resampled(image, *presmoothing(size, params))]
    for before, after in itertools.pairwise(level_sizes(size, params)):
        levels.append(resampled(levels[-1], *shrinking(before, after, params)))
    twin = build_pyramid(gaussian_blur(image, params.presmooth_sigma), params)
    for level, expected in zip(levels, twin, strict=True):
        np.testing.assert_allclose(level, expected, rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize("preset", PRESETS)
def test_tables_bring_the_flow_up_as_the_twin_does(preset: str) -> None:
    params, fine, coarse = PRESETS[preset], (45, 57), (36, 46)
    u = np.random.default_rng(0).normal(size=coarse)
    expected = upsample_flow(u[None], fine, params)[0]
    flow = resampled(u, flow_upsampling(coarse, fine, params))
    np.testing.assert_allclose(flow, expected, rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize("side", [1, 20, 21, 22, 23, 50, 87, 320])
def test_tiles_answer_for_each_pixel_once_and_keep_their_halo(side: int) -> None:
    # tile_span of tile.cu, in Python.
    shape, params = TileShape(columns=1, rows=2, warps=16, halo=5), TVL1Params()
    tiling, extent = tile_level((40, side), shape, params), shape.size[1]
    stride = extent - 2 * tiling.halo
    covered: list[int] = []
    for index in range(tiling.across):
        origin = max(0, min(index * stride, side - extent))
        start = 0 if index == 0 else index * stride + tiling.halo
        stop = side if index + 1 == tiling.across else (index + 1) * stride + tiling.halo
        assert start == 0 or start - origin >= tiling.halo
        assert stop == side or origin + extent - stop >= tiling.halo
        assert stop <= origin + extent
        assert start < stop
        covered += range(start, stop)
    assert covered == list(range(side))


def test_a_level_of_one_tile_iterates_from_test_to_test() -> None:
    params = dataclasses.replace(TVL1Params(), check_every=17)
    assert tile_level((64, 64), TileShape(), params).halo == 17
    assert tile_level((64, 65), TileShape(), params).halo == 9


def test_iterations_between_tests_are_shared_out_evenly() -> None:
    assert tile_level((99, 99), TileShape(halo=5), dataclasses.replace(TVL1Params(), check_every=6)).halo == 3


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"check_every": 1},
        {"check_every": 7, "median": 5, "median_every": 4, "iterations": 30},
        {"epsilon": 0.0, "iterations": 13},
        {"check_every": 400},
        {"median": 5, "median_every": 300},
        {"check_first": 0},
        {"check_first": 7, "check_every": 5},
        {"check_first": 5, "check_every": 5},
        {"check_first": 4, "iterations": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("most_steps", [1, 3, 5, 300])
def test_launches_test_and_filter_where_the_twin_does(change: dict[str, object], most_steps: int) -> None:
    params = dataclasses.replace(TVL1Params(), **change)  # type: ignore[arg-type]
    medians, tests, ends, done = set(), set(), set(), 0
    for launch in launches(params, most_steps):
        assert 1 <= launch.steps <= most_steps
        if launch.median:
            medians.add(done)
        done += launch.steps
        if launch.test:
            tests.add(done)
        if launch.ends_level:
            ends.add(done)
    assert done == params.iterations
    assert medians == (set(range(0, done, params.median_every)) if params.median else set())
    # A test after the last iteration would decide nothing.
    again, first = (
        range(params.check_every, done, params.check_every),
        {params.check_first} & {*range(1, done)},
    )
    assert tests == ({*again, *first} if params.epsilon else set())
    assert ends == {k for k in first if params.epsilon and k < params.check_every}


def test_a_tile_without_an_inside_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="lower the halo"):
        TileShape(columns=1, rows=2, warps=4, halo=4)


def test_memory_of_a_pair_grows_with_the_pixels() -> None:
    small, large = (bytes_per_pair((h, 320), TVL1Params(), frame_bytes=1) for h in (240, 480))
    assert 1.99 < large / small < 2.01
    assert 80 * 240 * 320 < small < 140 * 240 * 320


def test_memory_of_a_pair_has_the_dual_variable_only_where_it_is_handed_on() -> None:
    median = TVL1Params(weighted_median=5)
    plain, after_level, after_warp, handed_on, alone, both = (
        bytes_per_pair((240, 320), params, frame_bytes=1)
        for params in (
            TVL1Params(),
            dataclasses.replace(median, weighted_median_after="level"),
            median,
            TVL1Params(dual_start="coarser"),
            TVL1Params(dual_start="coarser", nscales=1),
            dataclasses.replace(median, dual_start="coarser"),
        )
    )
    pixels = 240 * 320
    assert after_level - plain == 8 * pixels
    assert after_warp - after_level == 16 * pixels
    assert handed_on - plain == 16 * (pixels + 192 * 256)
    assert alone < plain
    assert both - after_level == 16 * 2 * pixels
