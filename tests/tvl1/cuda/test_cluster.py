"""The cluster solver on the host: against the twin, and for every size that it claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.cluster import MOST_BLOCKS, ClusterShape, cluster_shape
from flowkit.tvl1.cuda.device import NULL
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes
from flowkit.tvl1.reference.solver import State, solve_level, tvl1_flow
from tests.make.cuda import SMALL_TILE
from tests.tvl1.emulation.emulator import COMPILER, IN_TURN, LAST_FIRST, RANDOM, Module
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

Waves = Callable[..., NDArray[np.float32]]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


# px: single precision in some 100 iterations.
AGREEMENT_PX = 1e-3


def solve_on_host(
    frames: NDArray[np.float32],
    start: NDArray[np.float32],
    params: TVL1Params,
    shape: ClusterShape,
    schedule: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Solve one level from frame 0 to 1 and from 1 to 0; return flow and iterations."""
    _, height, width = frames.shape
    module = Module("cluster.cu", shape.fitted((height, width)).defines)
    module.set_schedule(*schedule)
    flow = np.full((2, 2, height, width), np.nan, np.float32)
    iterations = np.zeros((2, params.warps), np.int32)
    planes = np.array([[0, 1], [1, 0]], np.int32)
    ints = (params.warps, width, height, 0, params.warps, params.iterations)
    tests = (params.check_every, params.check_first) if params.epsilon else (0, 0)
    floats = (params.epsilon**2 * height * width, params.bicubic_a, params.lambda_ * params.theta)
    args = (
        *(frames, planes, start, NULL, flow, NULL, iterations, *map(np.int32, (*ints, *tests))),
        *(*map(np.float32, floats), np.int32(params.border == "clamp")),
        *map(np.float32, (params.tau, params.tau / params.theta, params.theta)),
        *(NULL, NULL, np.float32(0)),
    )
    grid, block = (2 * shape.blocks,), (32 * shape.warps,)
    module.launch("flowkit_cluster", grid, block, args, shared_mem=shape.shared_bytes)
    return flow, iterations


@needs_compiler
@pytest.mark.parametrize(
    ("size", "shape", "change", "schedule"),
    [
        ((37, 45), (2, 2, 4, 5), {}, (RANDOM, 5)),
        ((37, 45), (2, 2, 4, 5), {"border": "off"}, (LAST_FIRST, 0)),
        ((40, 64), (2, 2, 4, 5), {"check_every": 1, "iterations": 12}, (RANDOM, 77)),
        ((23, 61), (2, 3, 2, 4), {"epsilon": 0.0, "iterations": 31}, (RANDOM, 1)),
        ((16, 16), (1, 1, 3, 6), {"check_every": 3}, (IN_TURN, 0)),
        ((9, 20), (1, 2, 5, 1), {"iterations": 25}, (RANDOM, 3)),
        ((1, 1), (1, 1, 1, 1), {"epsilon": 0.0, "iterations": 5}, (RANDOM, 3)),
        ((33, 70), (3, 1, 4, 9), {"iterations": 40, "check_every": 2}, (RANDOM, 9)),
    ],
)
def test_emulated_cluster_agrees_with_the_twin(
    size: tuple[int, int],
    shape: tuple[int, int, int, int],
    change: dict[str, object],
    schedule: tuple[int, int],
    waves: Waves,
) -> None:
    columns, rows, warps, blocks = shape
    cluster = ClusterShape(columns=columns, rows=rows, warps=warps, blocks=blocks)
    params = dataclasses.replace(TVL1Params(warps=2), **change)  # type: ignore[arg-type]
    frames = np.stack([waves(size), waves(size, (1.3, -0.8))])
    start = (0.5 * np.random.default_rng(0).normal(size=(2, 2, *size))).astype(np.float32)
    flow, iterations = solve_on_host(frames, start, params, cluster, schedule)
    for pair in range(2):
        I0, I1 = frames[:: 1 - 2 * pair].astype(np.float64)
        begin = State(u=start[pair].astype(np.float64), p=np.zeros((2, 2, *size)))
        twin, trace = solve_level(I0, I1, begin, params)
        assert tuple(iterations[pair]) == trace.iterations
        np.testing.assert_allclose(flow[pair], twin.u, rtol=0, atol=AGREEMENT_PX)


@needs_compiler
def test_emulated_cluster_gives_the_same_bits_under_every_schedule(waves: Waves) -> None:
    frames = np.stack([waves((30, 40)), waves((30, 40), (1, 1))])
    start, shape = np.zeros((2, 2, 30, 40), np.float32), ClusterShape(columns=2, rows=2, warps=3, blocks=5)
    params = TVL1Params(warps=2, check_every=2, iterations=40)
    expected, _ = solve_on_host(frames, start, params, shape, (IN_TURN, 0))
    for schedule in ((LAST_FIRST, 0), *((RANDOM, seed) for seed in range(4))):
        flow, _ = solve_on_host(frames, start, params, shape, schedule)
        np.testing.assert_array_equal(flow, expected)


@needs_compiler
@pytest.mark.parametrize("preset", ["opencv-cuda", "tsn", "ipol"])
def test_emulated_clusters_through_the_driver_agree_with_the_twin(
    preset: str, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(schedule=(RANDOM, 2), capability=90))
    frames = np.stack([waves((37, 45)), waves((37, 45), (1.3, -0.8))])
    solver = cuda.load(PRESETS[preset], method="cluster")
    flow, iterations = solver.flow_and_iterations(frames, [[0, 1]])
    twin = tvl1_flow(*frames, params=PRESETS[preset])
    assert [tuple(level) for level in iterations[0]] == [level.iterations for level in twin.trace.levels]
    np.testing.assert_allclose(flow[0], twin.flow, rtol=0, atol=5e-3)
    levels = len(level_sizes((37, 45), PRESETS[preset]))
    assert gpu.launched["flowkit_cluster"] == levels
    assert "flowkit_tile" not in gpu.launched
    assert (14, 1) in gpu.attributes, "clusters of more than 8 blocks must be allowed"


@needs_compiler
@pytest.mark.parametrize(
    ("preset", "size", "capability"),
    [("opencv-cpu", (20, 30), 90), ("opencv-cuda", (20, 30), 120), ("opencv-cuda", (20, 800), 90)],
    ids=["median", "another family", "too wide"],
)
def test_emulated_levels_that_do_not_fit_are_solved_by_tiles(
    preset: str, size: tuple[int, int], capability: int, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(capability=capability))
    params = dataclasses.replace(PRESETS[preset], nscales=1, warps=1, iterations=2)
    cuda.load(params, method="cluster", tile=SMALL_TILE).flow_batch(np.stack([waves(size)] * 2), [[0, 1]])
    assert "flowkit_cluster" not in gpu.launched
    assert gpu.launched["flowkit_tile"] > 0


@pytest.mark.parametrize(
    "size", [(240, 320), (256, 340), (98, 131), (16, 16), (1, 1), (384, 224), (256, 352), (1024, 96)]
)
def test_a_clusters_pixels_cover_the_level(size: tuple[int, int]) -> None:
    shape = cluster_shape(size)
    assert shape is not None
    assert 32 * shape.columns >= size[1]
    assert shape.rows * shape.warps * shape.blocks >= size[0]
    assert shape.rows * shape.warps * (shape.blocks - 1) < size[0], "a block without a row"
    assert shape.blocks <= MOST_BLOCKS
    assert shape.shared_bytes <= 227 * 1024


@pytest.mark.parametrize(
    ("size", "expected"),
    # The fastest of those timed on an H200, or within 3 % of it.
    [
        ((240, 320), (10, 2, 8, 15, 1)),
        ((192, 256), (8, 2, 12, 8, 1)),
        ((154, 205), (7, 2, 12, 7, 1)),
        ((123, 164), (6, 2, 8, 8, 2)),
        ((98, 131), (5, 3, 12, 3, 1)),
    ],
)
def test_a_cluster_has_the_shape_that_was_fastest(
    size: tuple[int, int], expected: tuple[int, int, int, int, int]
) -> None:
    shape = cluster_shape(size)
    assert shape is not None
    assert (shape.columns, shape.rows, shape.warps, shape.blocks, shape.resident) == expected


@pytest.mark.parametrize("size", [(720, 1280), (257, 352), (16, 769), (1025, 64)])
def test_a_level_beyond_a_cluster_has_no_shape(size: tuple[int, int]) -> None:
    assert cluster_shape(size) is None


def test_a_method_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    with pytest.raises(InvalidParameterError, match=r"Invalid method \('warp'\)\. .* are tile, cluster"):
        cuda.load(TVL1Params(), method="warp")  # type: ignore[arg-type]
