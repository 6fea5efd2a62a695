from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference.solver import load, tvl1_flow

Waves = Callable[..., NDArray[np.float32]]
GroundTruth = Callable[[str], tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]]

INSIDE = np.s_[:, 8:-8, 8:-8]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (15, 15), (26, 34)])
def test_identical_frames_give_zero_flow(preset: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert not tvl1_flow(image, image, params=preset).flow.any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (17, 16)])
def test_unrelated_small_frames_give_finite_flow(preset: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    result = tvl1_flow(a, b, params=preset)
    assert result.flow.shape == (2, *shape)
    assert np.isfinite(result.flow).all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("true", [(0.5, -0.25), (-1.75, 1.0), (3.0, 2.0)])
def test_a_known_shift_is_recovered(preset: str, true: tuple[float, float], waves: Waves) -> None:
    # u first and to the right, v second and downwards.
    flow = tvl1_flow(waves((56, 72)), waves((56, 72), true), params=preset).flow
    error = np.abs(flow[INSIDE] - np.reshape(true, (2, 1, 1)))
    # px, away from the border, where the shift brings in what was outside. Cubic convolution
    # with a = -0.75 does not reproduce a ramp: .04 px of bias at quarter pixels.
    biased = PRESETS[preset].bicubic_a != -0.5
    assert error.mean() < (0.035 if biased else 0.01)
    bias = np.median(flow, axis=(1, 2)) - true
    assert np.abs(bias).max() < (0.05 if biased else 0.01)


@pytest.mark.parametrize("preset", ["opencv-cuda", "opencv-cpu"])
def test_transposed_frames_give_transposed_flow(preset: str, waves: Waves) -> None:
    a, b = waves((33, 40)), waves((33, 40), (0.8, -0.6))
    flow = tvl1_flow(a, b, params=preset).flow
    turned = tvl1_flow(a.T, b.T, params=preset).flow
    # px; the order of sums differs, nothing else.
    np.testing.assert_allclose(turned[::-1].transpose(0, 2, 1), flow, rtol=0, atol=1e-9)


def test_bytes_and_floats_of_the_same_values_give_the_same_flow(waves: Waves) -> None:
    a, b = (np.rint(waves((30, 30), shift)) for shift in ((0.0, 0.0), (1.0, 0.0)))
    as_bytes = tvl1_flow(a.astype(np.uint8), b.astype(np.uint8)).flow
    assert np.array_equal(tvl1_flow(a, b).flow, as_bytes)


def test_normalised_frames_do_not_feel_contrast(waves: Waves) -> None:
    a, b = waves((30, 40)), waves((30, 40), (0.7, 0.2))
    flow = tvl1_flow(a, b, params="ipol").flow
    faint = tvl1_flow(a / 4 + 60, b / 4 + 60, params="ipol").flow
    # px: a and a/4 + 60 are rounded to float32 differently.
    np.testing.assert_allclose(faint, flow, rtol=0, atol=1e-3)


def test_the_trace_counts_every_level_and_warp(waves: Waves) -> None:
    params = dataclasses.replace(PRESETS["opencv-cuda"], epsilon=0.0, iterations=7, warps=3)
    trace = tvl1_flow(waves((30, 40)), waves((30, 40), (1.0, 0.0)), params=params).trace
    assert [(level.height, level.width) for level in trace.levels] == [(19, 26), (24, 32), (30, 40)]
    assert all(level.iterations == (7, 7, 7) for level in trace.levels)
    assert trace.iterations == 63
    assert trace.pixel_iterations == 21 * (19 * 26 + 24 * 32 + 30 * 40)


@pytest.mark.parametrize("check_every", [1, 4, 10])
def test_the_rule_is_tested_each_check_every_iterations(check_every: int, waves: Waves) -> None:
    params = dataclasses.replace(PRESETS["opencv-cpu"], check_every=check_every, iterations=50, check_first=0)
    levels = tvl1_flow(waves((30, 40)), waves((30, 40), (1.0, 0.0)), params=params).trace.levels
    counts = [count for level in levels for count in level.iterations]
    assert all(count % check_every == 0 or count == 50 for count in counts)
    assert min(counts) < 50


def test_a_coarser_check_runs_until_the_next_test(waves: Waves) -> None:
    fine, coarse = (
        tvl1_flow(
            waves((20, 20)),
            waves((20, 20), (0.5, 0.0)),
            params=dataclasses.replace(PRESETS["opencv-cuda"], check_every=k, warps=1, nscales=1),
        ).trace.iterations
        for k in (1, 10)
    )
    assert fine <= coarse <= fine + 9


def test_the_last_block_may_be_shorter(waves: Waves) -> None:
    params = dataclasses.replace(PRESETS["opencv-cuda"], iterations=13, epsilon=1e-9)
    levels = tvl1_flow(waves((20, 20)), waves((20, 20), (1.0, 0.0)), params=params).trace.levels
    assert all(level.iterations == (13,) * 5 for level in levels)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau", 0.1),
        ("lambda_", 0.05),
        ("theta", 0.5),
        ("nscales", 1),
        ("scale_step", 0.6),
        ("pyramid", "gaussian"),
        ("warps", 1),
        ("iterations", 3),
        ("epsilon", 0.05),
        ("check_every", 7),
        ("median", 5),
        ("bicubic_a", -0.75),
        ("border", "off"),
        ("presmooth_sigma", 0.8),
        ("normalize", True),
        ("gradient_taps", 5),
        ("dual", "projected"),
        ("dual_start", "coarser"),
        ("weighted_median", 5),
        ("weighted_median", 7),
    ],
)
def test_every_parameter_changes_the_flow(field: str, value: object, waves: Waves) -> None:
    a, b = waves((30, 40)), waves((30, 40), (2.3, -1.2))
    before = dataclasses.replace(PRESETS["opencv-cuda"], iterations=30, warps=2)
    changed = dataclasses.replace(before, **{field: value})  # type: ignore[arg-type]
    assert not np.array_equal(tvl1_flow(a, b, params=before).flow, tvl1_flow(a, b, params=changed).flow)


def test_median_every_changes_the_flow(waves: Waves) -> None:
    a, b = waves((30, 40)), waves((30, 40), (2.3, -1.2))
    often, seldom = (
        tvl1_flow(a, b, params=dataclasses.replace(PRESETS["opencv-cpu"], median_every=k)).flow
        for k in (5, 30)
    )
    assert not np.array_equal(often, seldom)


def test_the_solver_gives_the_twins_flow_in_float32() -> None:
    frames = np.random.default_rng(5).integers(0, 256, (3, 12, 14), dtype=np.uint8)
    flow = load(PRESETS["fast"]).flow_batch(frames, np.array([[0, 2], [1, 1]]))
    assert flow.dtype == np.float32
    expected = tvl1_flow(frames[0], frames[2], params="fast").flow.astype(np.float32)
    assert np.array_equal(flow[0], expected)
    assert not flow[1].any()


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="one shape"):
        tvl1_flow(np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.data
@pytest.mark.parametrize("preset", PRESETS)
def test_ground_truth_of_rubberwhale(preset: str, ground_truth: GroundTruth) -> None:
    I0, I1, true = ground_truth("RubberWhale")
    crop = np.s_[120:240, 200:360]
    true = true[:, crop[0], crop[1]]
    flow = tvl1_flow(I0[crop], I1[crop], params=preset).flow
    # px; no flow at all would be 1.4 px off here, and what leaves the crop costs its share:
    # benchmarks/accuracy.py has the figures of whole frames.
    assert np.nanmean(np.hypot(*true)) > 1.2
    assert np.nanmean(np.hypot(*(flow - true))) < 0.3
