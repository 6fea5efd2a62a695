"""The tile solver's levels and its counter of active pairs, on an emulated GPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.device import CudaDevice
from flowkit.tvl1.cuda.tile import TESTS_AHEAD, TileProgress, TileSolver
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.solver import State, solve_level
from tests.make.cuda import PAIRS, SMALL_TILE
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu

Waves = Callable[..., NDArray[np.float32]]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


@needs_compiler
def test_emulated_stopping_needs_few_launches_more_than_the_slowest_pair(
    gpu: FakeGpu, frames: NDArray[np.float32]
) -> None:
    params = TVL1Params(nscales=1, warps=1)
    solver = cuda.load(params, tile=SMALL_TILE)
    _, iterations = solver.flow_and_iterations(frames, PAIRS)
    assert iterations.min() < iterations.max() < params.iterations
    # The test after two iterations divides one launch of five.
    needed = math.ceil(iterations.max() / 5) + 1
    assert needed <= gpu.launched["flowkit_tile"] <= needed + 2 * TESTS_AHEAD


@needs_compiler
def test_emulated_pairs_whose_level_has_ended_do_not_keep_a_warp_going(
    gpu: FakeGpu, frames: NDArray[np.float32]
) -> None:
    params = TVL1Params(nscales=1, warps=2)
    _, iterations = cuda.load(params, tile=SMALL_TILE).flow_and_iterations(frames, [[2, 2], [0, 1]])
    assert iterations[0].tolist() == [[params.check_first, 0]]
    # Each warp has one test more.
    needed = sum(math.ceil(done / 5) for done in iterations[1, 0]) + 2
    assert needed <= gpu.launched["flowkit_tile"] <= needed + 4 * TESTS_AHEAD


@pytest.fixture
def device(gpu: FakeGpu) -> CudaDevice:
    return cuda_device.open_device(0)


# px: single precision in some 60 iterations.
AGREEMENT_PX = 1e-3


def solve_levels(
    device: CudaDevice,
    params: TVL1Params,
    levels: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]],
    sizes: list[tuple[int, int]],
    order: list[int],
) -> tuple[dict[int, NDArray[np.float32]], NDArray[np.int32]]:
    """Solve levels (frames, start) in one workspace, from frame 0 to 1 and from 1 to 0."""
    solver = TileSolver(device, params, sizes, SMALL_TILE)
    work = solver.workspace(device.upload(np.array([[0, 1], [1, 0]], np.int32)))
    slots = len(sizes) * params.warps
    counts, flows = device.zeros((2, slots), np.int32), {}
    for level in order:
        frames, start = levels[level]
        flows[level] = device.empty((2, 2, *sizes[level]), np.float32)
        begin = None if start is None else device.upload(start)
        ends = (begin, flows[level])
        solver.solve_level(
            level, device.upload(frames), ends, counts.reshape(-1)[level * params.warps :], work=work
        )
    device.faults.wait(device.event())
    return {level: flow.get() for level, flow in flows.items()}, counts.get()


def level_of(
    size: tuple[int, int], waves: Waves, *, started: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    frames = np.stack([waves(size), waves(size, (1.3, -0.8))])
    start = (0.5 * np.random.default_rng(0).normal(size=(2, 2, *size))).astype(np.float32)
    return frames, start if started else None


@needs_compiler
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("size", [(37, 45), (16, 32)], ids=["four tiles and more", "one tile"])
def test_emulated_level_agrees_with_the_twin_from_zero_and_from_a_start(
    size: tuple[int, int], started: bool, device: CudaDevice, waves: Waves
) -> None:
    params = TVL1Params(warps=2, iterations=30, check_every=5)
    frames, start = level_of(size, waves, started=started)
    flows, counts = solve_levels(device, params, [(frames, start)], [size], [0])
    for pair in range(2):
        I0, I1 = frames[:: 1 - 2 * pair].astype(np.float64)
        begin = np.zeros((2, *size)) if start is None else start[pair].astype(np.float64)
        twin, trace = solve_level(I0, I1, State(u=begin, p=np.zeros((2, 2, *size))), params)
        assert tuple(counts[pair]) == trace.iterations
        np.testing.assert_allclose(flows[0][pair], twin.u, rtol=0, atol=AGREEMENT_PX)


@needs_compiler
def test_emulated_workspace_carries_nothing_from_level_to_level(device: CudaDevice, waves: Waves) -> None:
    sizes = [(37, 45), (20, 24)]
    levels = [level_of(size, waves, started=True) for size in sizes]
    params = TVL1Params(warps=1, iterations=12, median=5, median_every=6)
    alone = [solve_levels(device, params, levels, sizes, [level]) for level in (0, 1)]
    for order in ([1, 0], [0, 1]):
        flows, counts = solve_levels(device, params, levels, sizes, order)
        for level in order:
            np.testing.assert_array_equal(flows[level], alone[level][0][level])
            assert counts[:, level].tolist() == alone[level][1][:, level].tolist() != [0, 0]


@needs_compiler
def test_emulated_warp_that_is_never_tested_launches_all_its_iterations(
    gpu: FakeGpu, device: CudaDevice, waves: Waves
) -> None:
    params = TVL1Params(warps=2, iterations=23, epsilon=0.0)
    frames, start = level_of((20, 24), waves, started=False)
    _, counts = solve_levels(device, params, [(frames, start)], [(20, 24)], [0])
    assert counts.tolist() == [[23, 23]] * 2
    # At most a halo of 5 iterations a launch, for both pairs at once.
    assert gpu.launched["flowkit_tile"] == 2 * math.ceil(23 / 5)


def report(progress: TileProgress, device: CudaDevice, active: int) -> None:
    progress.report(device.upload(np.array([active], np.int32)))


@pytest.mark.parametrize("last", [0, 1, 5, 4 * TESTS_AHEAD + 1])
def test_a_warp_ends_at_most_a_few_tests_after_the_report_that_no_pair_iterates(
    last: int, device: CudaDevice
) -> None:
    progress, reports = TileProgress(device), 0
    while True:
        report(progress, device, max(0, last - reports))
        reports += 1
        if progress.finished():
            break
        assert reports <= last + 1 + TESTS_AHEAD
    assert reports >= last + 1


def test_a_report_whose_work_is_not_done_is_not_read(device: CudaDevice, gpu: FakeGpu) -> None:
    progress = TileProgress(device)
    report(progress, device, 0)
    assert not progress.finished()
    gpu.current_stream().synchronize()
    assert progress.finished()


def test_the_oldest_report_is_waited_for_when_too_many_are_open(device: CudaDevice) -> None:
    progress = TileProgress(device)
    for active in (0, *[1] * TESTS_AHEAD):
        report(progress, device, active)
    assert progress.finished()


@pytest.mark.parametrize("newer", range(TESTS_AHEAD + 1))
def test_open_reports_keep_their_own_counts(newer: int, device: CudaDevice, gpu: FakeGpu) -> None:
    progress = TileProgress(device)
    for active in (0, *[1] * newer):
        report(progress, device, active)
    gpu.current_stream().synchronize()
    assert progress.finished()


def test_reports_of_the_warp_before_do_not_end_the_next(device: CudaDevice, gpu: FakeGpu) -> None:
    progress = TileProgress(device)
    report(progress, device, 0)
    progress.start()
    report(progress, device, 2)
    gpu.current_stream().synchronize()
    assert not progress.finished()
    report(progress, device, 0)
    gpu.current_stream().synchronize()
    assert progress.finished()


def test_pairs_that_iterate_never_end_a_warp_however_many_reports(device: CudaDevice) -> None:
    progress = TileProgress(device)
    for active in range(20, 0, -1):
        report(progress, device, active)
        assert not progress.finished()
