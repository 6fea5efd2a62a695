"""The CPU engine held to the twin in what the published model has not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow
from tests.make.twin import assert_agrees_with_twin, assert_nearly_agrees

Waves = Callable[..., NDArray[np.float32]]

# A fixed number of iterations: a filtered flow that is a value apart moves the rule's outcome.
FIXED = TVL1Params(nscales=3, warps=2, iterations=20, epsilon=0.0, check_first=0)

EDGES: dict[str, Any] = {"dual": "projected", "edge_alpha": 5.0}
ALL: dict[str, Any] = {
    **EDGES,
    "gradient_taps": 5,
    "dual_start": "coarser",
    "weighted_median": 7,
    "weighted_median_spread": 0.02,
}
UNFILTERED: list[dict[str, Any]] = [
    {"warp_snap": 0.1},
    {"warp_snap": 0.4, "gradient_taps": 5, "border": "off"},
    {"gradient_taps": 5},
    {"gradient_taps": 5, "border": "off", "bicubic_a": -0.75},
    {"dual": "projected"},
    {"dual": "projected", "tau": 0.1, "theta": 0.5, "lambda_": 0.5},
    {"dual_start": "coarser"},
    {"dual_start": "coarser", "dual": "projected"},
    {"dual_start": "coarser", "pyramid": "pyrdown", "scale_step": 0.5},
    {"dual_start": "coarser", "pyramid": "gaussian", "scale_step": 0.6},
    EDGES,
    {**EDGES, "edge_alpha": 1000.0},
    {**EDGES, "edge_beta": 0.5},
    {**EDGES, "edge_beta": 2.0, "edge_alpha": 100.0},
    {**EDGES, "gradient_taps": 5, "dual_start": "coarser", "median": 5},
]
FILTERED: list[dict[str, Any]] = [
    {"weighted_median": 5},
    {"weighted_median": 7},
    {"weighted_median": 5, "weighted_median_after": "level"},
    {"weighted_median": 7, "weighted_median_spread": 0.05},
    {"weighted_median": 5, "weighted_median_grey": 1.5},
    {"weighted_median": 5, "weighted_median_px": 1.0},
    {"weighted_median": 7, "weighted_median_grey": 0.01, "weighted_median_px": 0.01},
    ALL,
    {**ALL, "weighted_median": 5, "weighted_median_after": "level", "border": "off"},
    {**ALL, "pyramid": "pyrdown", "scale_step": 0.5},
    {**ALL, "pyramid": "gaussian", "scale_step": 0.6, "normalize": True, "presmooth_sigma": 0.8},
]


pytestmark = pytest.mark.usefixtures("cpu_engine")


@pytest.mark.parametrize("changes", UNFILTERED, ids=str)
def test_taps_weights_and_duals_agree_with_the_twin(changes: dict[str, Any], waves: Waves, isa: str) -> None:
    a, b = waves((37, 50)), waves((37, 50), (-0.7, 0.9))
    assert_agrees_with_twin(a, b, dataclasses.replace(FIXED, **changes), isa)


@pytest.mark.parametrize("changes", FILTERED, ids=str)
def test_the_weighted_median_agrees_with_the_twin(changes: dict[str, Any], waves: Waves, isa: str) -> None:
    a, b = waves((37, 50)), waves((37, 50), (-0.7, 0.9))
    assert_nearly_agrees(a, b, dataclasses.replace(FIXED, **changes), isa)


@pytest.mark.parametrize(
    "changes",
    [{}, EDGES, {"check_first": 7}, {"check_every": 2}, {"median": 5}, {"check_first": 20}, {"epsilon": 0.0}],
    ids=str,
)
def test_still_blocks_keep_their_flow_as_in_the_twin(changes: dict[str, Any], waves: Waves, isa: str) -> None:
    rule: dict[str, Any] = {"epsilon": 1e-4, "check_first": 2, "block_epsilon": 0.03, "warps": 3}
    params = dataclasses.replace(FIXED, **(rule | changes))
    a, b = waves((37, 53)), waves((37, 53), (1.3, -0.8))
    b[:, :20] = a[:, :20]
    assert_agrees_with_twin(a, b, params, isa)
    all_iterate = dataclasses.replace(params, block_epsilon=0.0)
    one, other = (
        cpu.load(each, isa=isa).flow_batch(np.stack([a, b]), [[0, 1]]) for each in (params, all_iterate)
    )
    tested = params.epsilon > 0 and params.check_first < params.iterations
    assert np.array_equal(one, other) != tested


@pytest.mark.parametrize("border", ["clamp", "off"])
@pytest.mark.parametrize("true", [(6.5, 0.0), (-5.25, 4.5)])
def test_motion_out_of_the_frame_agrees_with_the_twin(
    border: Any, true: tuple[float, float], waves: Waves, isa: str
) -> None:
    a, b = waves((40, 53)), waves((40, 53), true)
    taps = dataclasses.replace(FIXED, border=border, gradient_taps=5, **EDGES)
    # px: 1 / |q| is within 4e-4 of the twin's, an edge weight within 4e-5, and where nothing matches
    # a difference grows with every iteration.
    assert_agrees_with_twin(a, b, taps, isa, tolerance_px=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 3), (3, 2), (17, 16), (16, 33)])
@pytest.mark.parametrize("border", ["clamp", "off"])
def test_small_frames_agree_with_the_twin(
    shape: tuple[int, int], border: Any, waves: Waves, isa: str
) -> None:
    unfiltered = {name: value for name, value in ALL.items() if not name.startswith("weighted_median")}
    params = dataclasses.replace(FIXED, border=border, **unfiltered)
    # px: at the edge of the frame, which is all there is, the data term switches at a rounding.
    assert_agrees_with_twin(waves(shape), waves(shape, (0.6, 0.4)), params, isa, tolerance_px=0.05)


@pytest.mark.parametrize("side", [5, 7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 3), (3, 2), (17, 16), (16, 33)])
def test_small_frames_are_filtered_to_values_of_the_twins_range(
    shape: tuple[int, int], side: Any, waves: Waves, isa: str
) -> None:
    params = dataclasses.replace(FIXED, warps=1, weighted_median=side)
    a, b = waves(shape), waves(shape, (0.6, 0.4))
    twin = tvl1_flow(a, b, params=params).flow
    flow = cpu.load(params, isa=isa).flow_batch(np.stack([a, b]), [[0, 1]])[0]
    # px; here a value of another neighbour is a larger part of all.
    assert np.abs(flow - twin).max() < 0.05


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("first", [0, 1, 2, 3, 10, 400])
def test_warps_are_left_out_as_by_the_twin(first: int, preset: str, waves: Waves) -> None:
    still, moving = waves((40, 50)), waves((40, 50), (0.3, 0.1))
    params = dataclasses.replace(PRESETS[preset], check_first=first, weighted_median=0, iterations=40)
    solver = cpu.load(params)
    _, counted = solver.flow_and_iterations(np.stack([still, moving]), [[0, 0], [0, 1]])
    for second, counts in ((still, counted[0]), (moving, counted[1])):
        levels = tvl1_flow(still, second, params=params).trace.levels
        assert [tuple(level) for level in counts] == [level.iterations for level in levels]


@pytest.mark.parametrize("changes", [*UNFILTERED[::3], *FILTERED[::3], ALL], ids=str)
def test_identical_frames_give_zero_flow(changes: dict[str, Any], isa: str) -> None:
    for shape in ((1, 1), (2, 3), (17, 16), (48, 65)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        solver = cpu.load(dataclasses.replace(FIXED, **changes), isa=isa)
        assert not solver.flow_batch(image[None], [[0, 0]]).any()


@pytest.mark.parametrize("changes", [EDGES, *FILTERED[::2]], ids=str)
def test_saturated_noise_gives_finite_flow(changes: dict[str, Any], isa: str) -> None:
    frames = np.random.default_rng(3).choice(np.array([0, 255], np.uint8), (2, 50, 67))
    flow = cpu.load(dataclasses.replace(FIXED, **changes), isa=isa).flow_batch(frames, [[0, 1]])
    assert np.isfinite(flow).all()


@pytest.mark.parametrize("changes", [EDGES, {"weighted_median": 7}, ALL], ids=str)
def test_threads_and_order_do_not_change_a_bit(changes: dict[str, Any], waves: Waves, isa: str) -> None:
    frames = np.stack([waves((40, 52), (0.4 * k, -0.3 * k)) for k in range(5)])
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [2, 2]])
    solver = cpu.load(dataclasses.replace(PRESETS["fast"], **changes), isa=isa)
    alone = np.concatenate([solver.flow_batch(frames[pair], [[0, 1]]) for pair in pairs])
    for threads in (1, 2, 3, 16):
        np.testing.assert_array_equal(solver.flow_batch(frames, pairs, threads=threads), alone)
    np.testing.assert_array_equal(solver.flow_batch(frames, pairs[::-1], threads=2)[::-1], alone)


@pytest.mark.parametrize(
    "changes", [{"gradient_taps": 5}, EDGES, {"dual_start": "coarser"}, {"weighted_median": 5}, ALL], ids=str
)
def test_memory_kept_from_other_calls_does_not_change_a_bit(
    changes: dict[str, Any], waves: Waves, isa: str
) -> None:
    # What lanes beyond the frame hold may not decide anything, such as how often a range is halved.
    solver = cpu.load(dataclasses.replace(PRESETS["fast"], **changes), isa=isa)
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.float32), (2, 70, 90))

    def solve(*stacks: NDArray[np.float32]) -> NDArray[np.float32]:
        with ThreadPoolExecutor(max_workers=1) as fresh_thread:
            return list(fresh_thread.map(lambda frames: solver.flow_batch(frames, [[0, 1]]), stacks))[-1]

    for shape in ((33, 41), (34, 50), (21, 17)):
        small = np.stack([waves(shape), waves(shape, (1.2, -0.7))])
        large = np.stack([waves((70, 90)), waves((70, 90), (1.2, -0.7))])
        np.testing.assert_array_equal(solve(large, noise, small), solve(small))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"check_first": 0},
        {"check_first": 15},
        {"check_every": 1},
        {"iterations": 2},
        {"epsilon": 0.0, "iterations": 7},
    ],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_repeated_frame_has_the_twins_iterations(preset: str, changes: dict[str, Any]) -> None:
    params = dataclasses.replace(PRESETS[preset], **changes)
    frame = np.random.default_rng(0).integers(0, 256, (33, 40)).astype(np.uint8)
    expected = [list(level.iterations) for level in tvl1_flow(frame, frame, params=params).trace.levels]
    for frames, pair in ((np.stack([frame, frame]), [0, 1]), (frame[None], [0, 0])):
        flow, iterations = cpu.load(params).flow_and_iterations(frames, np.array([pair]))
        assert not flow.any()
        assert iterations[0].tolist() == expected
