from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.opencv import deviations_of, load, make_dual_tvl1, rounds_positions
from flowkit.tvl1.params import PRESETS
from flowkit.tvl1.reference import steps as reference_steps
from flowkit.tvl1.reference.sampling import sample_bicubic
from flowkit.tvl1.reference.solver import tvl1_flow
from flowkit.typing import Float64

Waves = Callable[..., NDArray[np.float32]]
GroundTruth = Callable[[str], tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]]

PAIR = np.array([[0, 1]])
EXPRESSIBLE = [name for name in PRESETS if name != "ipol"]


def textured_pair(waves: Waves, shape: tuple[int, int], true: tuple[float, float]) -> NDArray[np.uint8]:
    return np.rint(np.stack([waves(shape), waves(shape, true)])).astype(np.uint8)


@pytest.mark.parametrize("preset", EXPRESSIBLE)
def test_identical_frames_give_zero_flow(preset: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 30, 40), dtype=np.uint8)
    assert not load(PRESETS[preset]).flow_batch(image, np.array([[0, 0]])).any()


def sample_as_cv2_does(images: Float64, x: Float64, y: Float64, a: float) -> Float64:
    """Sample with zeros outside the frame, and at the positions that this OpenCV uses."""
    height, width = images.shape[-2:]
    if rounds_positions():
        x, y = np.rint(x * 32) / 32, np.rint(y * 32) / 32
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4)))
    return sample_bicubic(padded, np.clip(x, -3, width + 2) + 4, np.clip(y, -3, height + 2) + 4, a)


@pytest.mark.parametrize("median", [0, 5])
@pytest.mark.parametrize("step", [0.8, 0.5])
def test_the_twin_with_cv2s_border_is_cv2(
    median: Literal[0, 5], step: float, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything but the border is shared: pyramid, warp, thresholding, dual step, median, up.
    monkeypatch.setattr(reference_steps, "sample_bicubic", sample_as_cv2_does)
    cv2s = dataclasses.replace(
        PRESETS["opencv-cpu"],
        median=median,
        scale_step=step,
        border="clamp",  # no mask: the zeros alone switch the data term off
        epsilon=0.0,  # a fixed number of iterations: rounding cannot move the stop
        iterations=30,
        median_every=10,
    )
    frames = textured_pair(waves, (60, 76), (1.3, -0.7))
    theirs = load(cv2s).flow_batch(frames, PAIR)[0]
    # px: what float32 loses against float64 over 150 iterations a level; where positions are
    # rounded, that loss sends some of them to the other side, 1/32 px away.
    atol = 0.03 if rounds_positions() else 2e-3
    np.testing.assert_allclose(theirs, tvl1_flow(*frames, params=cv2s).flow, rtol=0, atol=atol)


@pytest.mark.parametrize("median", [0, 5])
def test_the_twin_without_cv2s_border_agrees_inside(median: Literal[0, 5], waves: Waves) -> None:
    cv2s = dataclasses.replace(PRESETS["opencv-cpu"], median=median, check_every=1)
    frames = textured_pair(waves, (60, 76), (1.3, -0.7))
    theirs = load(cv2s).flow_batch(frames, PAIR)[0]
    ours = tvl1_flow(*frames, params=cv2s).flow
    difference = np.hypot(*(theirs - ours))[10:-10, 10:-10]
    # px: the zeros that cv2 blends in keep its border moving, so that it stops later; what
    # a warp still changes when it stops is epsilon = .01 px per iteration.
    assert difference.mean() < 0.015
    assert difference.max() < 0.08


@pytest.mark.parametrize("preset", EXPRESSIBLE)
def test_a_known_shift_has_its_sign_and_order(preset: str, waves: Waves) -> None:
    frames = textured_pair(waves, (50, 60), (2.0, -1.0))
    flow = load(PRESETS[preset]).flow_batch(frames, PAIR)[0]
    # px: a = -0.75 biases quarter pixels, and older cv2 rounds positions to 1/32 px.
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), [2, -1], rtol=0, atol=0.05)


def loops(solver: Any) -> tuple[int, int, int]:
    return solver.getMedianFiltering(), solver.getInnerIterations(), solver.getOuterIterations()


def test_parameters_reach_cv2() -> None:
    params = dataclasses.replace(
        PRESETS["opencv-cpu"], tau=0.2, lambda_=0.1, theta=0.25, warps=3, epsilon=0.02, iterations=70
    )
    solver = make_dual_tvl1(params, (240, 320))
    assert (solver.getTau(), solver.getLambda(), solver.getTheta()) == (0.2, 0.1, 0.25)
    assert (solver.getWarpingsNumber(), solver.getEpsilon()) == (3, 0.02)
    assert (solver.getScalesNumber(), solver.getScaleStep()) == (5, 0.8)
    assert loops(solver) == (5, 30, 3)


def test_without_a_median_the_outer_loop_counts_the_iterations() -> None:
    solver = make_dual_tvl1(PRESETS["opencv-cuda"], (240, 320))
    assert loops(solver) == (1, 1, 300)


def test_opencv_cpu_is_cv2s_own_default() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 40, 50), dtype=np.uint8)
    default = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    expected = default.calc(frames[0], frames[1], None).transpose(2, 0, 1)
    assert np.array_equal(load(PRESETS["opencv-cpu"]).flow_batch(frames, PAIR)[0], expected)


def test_floats_and_bytes_of_the_same_values_give_the_same_flow() -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, 40, 50), dtype=np.uint8)
    solver = load(PRESETS["opencv-cuda"])
    as_floats = solver.flow_batch(frames.astype(np.float32), PAIR)
    # px: cv2 takes floats as [0, 1] and multiplies by 255 again, one rounding in 2^24.
    np.testing.assert_allclose(as_floats, solver.flow_batch(frames, PAIR), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (1, 100)])
def test_frames_that_cv2_would_read_beyond_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(BackendError, match=rf"at least 3x3 px, got {shape[1]}x{shape[0]}; use backend"):
        load(PRESETS["opencv-cpu"]).flow_batch(np.zeros((2, *shape), np.uint8), PAIR)


@pytest.mark.parametrize("shape", [(3, 3), (3, 50), (15, 15), (26, 34)])
@pytest.mark.parametrize("step", [0.8, 0.05])
def test_small_frames_give_finite_flow(shape: tuple[int, int], step: float) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (2, *shape), dtype=np.uint8)
    params = dataclasses.replace(PRESETS["opencv-cpu"], scale_step=step)
    assert np.isfinite(load(params).flow_batch(frames, PAIR)).all()


def test_a_small_frame_does_not_lower_the_scales_of_the_next(waves: Waves) -> None:
    solver = load(PRESETS["opencv-cuda"])
    frames = textured_pair(waves, (50, 60), (4.0, 2.0))
    before = solver.flow_batch(frames, PAIR)
    solver.flow_batch(frames[:, :16, :16], PAIR)
    assert np.array_equal(solver.flow_batch(frames, PAIR), before)


def test_threads_and_order_of_pairs_change_nothing() -> None:
    frames = np.random.default_rng(4).integers(0, 256, (4, 24, 30), dtype=np.uint8)
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    solver = load(PRESETS["opencv-cpu"])
    alone = solver.flow_batch(frames, pairs)
    assert np.array_equal(solver.flow_batch(frames, pairs, threads=3), alone)
    assert np.array_equal(solver.flow_batch(frames, pairs[::-1], threads=2)[::-1], alone)


def test_no_pairs_give_no_flow() -> None:
    flow = load(PRESETS["opencv-cpu"]).flow_batch(np.zeros((1, 8, 9), np.uint8), np.zeros((0, 2), np.int32))
    assert flow.shape == (0, 2, 8, 9)


def test_cv2s_own_thread_count_is_restored_after_overlapping_calls() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        frames = np.random.default_rng(5).integers(0, 256, (2, 20, 20), dtype=np.uint8)
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda _: load(PRESETS["fast"]).flow_batch(frames, PAIR), range(8)):
                pass
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_deviations_name_only_what_differs() -> None:
    always = ("warped positions are rounded to 1/32 px",) if rounds_positions() else ()
    cv2s = dataclasses.replace(PRESETS["opencv-cpu"], check_every=1, check_first=0)
    assert deviations_of(cv2s) == (*always, "border: within 2 px of it zeros are blended in from outside")
    text = "\n".join(deviations_of(PRESETS["tsn"]))
    for part in (
        "pyramid: bilinear resize",
        "bicubic_a: -0.75, not -0.5",
        "not clamp",
        "check_every: 1, not 10",
    ):
        assert part in text
    rounded = deviations_of(dataclasses.replace(cv2s, iterations=100))
    assert "iterations: 120, not 100" in rounded
    assert load(PRESETS["tsn"]).deviations == deviations_of(PRESETS["tsn"])


@pytest.mark.parametrize(
    ("changes", "phrases"),
    [
        ({"check_first": 2}, ["check_first: 0, not 2"]),
        ({"warp_snap": 0.1}, ["warp_snap: 0, not 0.1"]),
        ({"gradient_taps": 5}, ["gradient_taps: 3, not 5"]),
        ({"dual": "projected"}, ["dual: semi-implicit, not projected"]),
        ({"dual_start": "coarser"}, ["dual_start: zero, not coarser"]),
        (
            {"dual": "projected", "edge_alpha": 5.0},
            [
                "dual: semi-implicit, not projected",
                "edge_alpha: 0, which weighs all edges alike, not 5.0",
            ],
        ),
        ({"weighted_median": 7}, ["weighted_median: none, not of side 7 px"]),
        # Of what is off, what it would be changes nothing.
        ({"edge_beta": 2.0, "weighted_median_grey": 3.0, "weighted_median_after": "level"}, []),
    ],
    ids=str,
)
def test_what_the_published_model_has_not_is_a_deviation(changes: dict[str, Any], phrases: list[str]) -> None:
    first = dataclasses.replace(PRESETS["opencv-cpu"], check_first=0)
    changed = dataclasses.replace(first, **changes)
    assert deviations_of(changed) == (*deviations_of(first), *phrases)
    frames = np.random.default_rng(6).integers(0, 256, (2, 20, 24), dtype=np.uint8)
    assert np.array_equal(load(changed).flow_batch(frames, PAIR), load(first).flow_batch(frames, PAIR))


def test_the_rounding_of_positions_is_that_of_the_version() -> None:
    assert rounds_positions() == (int(cv2.__version__.split(".")[0]) < 5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pyramid": "gaussian"}, "pyramid='gaussian'"),
        ({"normalize": True}, "normalize"),
        ({"presmooth_sigma": 0.8}, "presmooth_sigma"),
    ],
)
def test_what_cv2_lacks_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BackendError, match=f"has no {named}; use backend"):
        load(dataclasses.replace(PRESETS["opencv-cuda"], **changes))  # type: ignore[arg-type]


def test_ipol_is_refused() -> None:
    with pytest.raises(BackendError, match="not 'ipol'"):
        load(PRESETS["ipol"])


def test_a_cv2_without_optflow_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(BackendUnavailableError, match="install opencv-contrib-python-headless alone"):
        load(PRESETS["opencv-cpu"])


@pytest.mark.data
@pytest.mark.parametrize("name", ["RubberWhale", "Venus"])
def test_the_twins_error_is_within_3_percent_of_cv2s(name: str, ground_truth: GroundTruth) -> None:
    I0, I1, true = ground_truth(name)
    crop = np.s_[100:240, 120:300]
    frames = np.stack([I0[crop], I1[crop]])
    theirs = load(PRESETS["opencv-cpu"]).flow_batch(frames, PAIR)[0]
    ours = tvl1_flow(*frames, params="opencv-cpu").flow
    aee = [float(np.nanmean(np.hypot(*(flow - true[:, crop[0], crop[1]])))) for flow in (theirs, ours)]
    assert aee[1] == pytest.approx(aee[0], rel=0.03)
