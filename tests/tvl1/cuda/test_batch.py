"""One batch on an emulated GPU: levels in turn, by tiles, clusters or both."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda.batch import BatchResult, BatchSolver, Method
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow
from tests.make.cuda import PAIRS, SMALL_TILE
from tests.tvl1.emulation.emulator import COMPILER, RANDOM
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

Waves = Callable[..., NDArray[np.float32]]

# px: single precision in some 80 iterations.
AGREEMENT_PX = 1e-3

PARAMS = TVL1Params(nscales=2, warps=2, iterations=20, check_every=5)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that has clusters."""
    return install(monkeypatch, FakeGpu(schedule=(RANDOM, 3), capability=90))


def batch_solver(size: tuple[int, int], method: Method = "tile", params: TVL1Params = PARAMS) -> BatchSolver:
    return BatchSolver(cuda_device.open_device(0), params, size, tile=SMALL_TILE, method=method)


def enqueue(
    frames: NDArray[np.generic],
    pairs: NDArray[np.integer],
    method: Method = "tile",
    params: TVL1Params = PARAMS,
) -> BatchResult:
    height, width = frames.shape[1:]
    device = cuda_device.open_device(0)
    solver = batch_solver((height, width), method, params)
    return solver.solve(device.upload(frames), pairs.astype(np.int32))


def wait() -> None:
    device = cuda_device.open_device(0)
    device.faults.wait(device.event())


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("normalize", [False, True])
def test_emulated_batch_has_the_twins_flow_and_iterations_for_each_pair(
    normalize: bool, frames: NDArray[np.float32]
) -> None:
    params = dataclasses.replace(PARAMS, normalize=normalize)
    result = enqueue(frames, PAIRS[:3], params=params)
    wait()
    for (first, second), flow, counts in zip(
        PAIRS[:3], result.flow.get(), result.iterations.get(), strict=True
    ):
        twin = tvl1_flow(frames[first], frames[second], params=params)
        np.testing.assert_allclose(flow, twin.flow, rtol=0, atol=AGREEMENT_PX)
        assert counts.tolist() == [count for level in twin.trace.levels for count in level.iterations]


@pytest.mark.usefixtures("gpu")
def test_emulated_flow_goes_into_the_memory_that_is_given(frames: NDArray[np.float32]) -> None:
    device = cuda_device.open_device(0)
    expected = enqueue(frames, PAIRS[:2]).flow
    room = device.zeros((4, 2, *frames.shape[1:]), np.float32)
    solver = batch_solver((20, 34))
    result = solver.solve(device.upload(frames), PAIRS[:2].astype(np.int32), room[1:3])
    wait()
    assert np.shares_memory(result.flow, room)
    np.testing.assert_array_equal(room[1:3].get(), expected.get())
    assert not room[0].any()
    assert not room[3].any()


@pytest.mark.usefixtures("gpu")
def test_emulated_batches_of_one_solver_follow_each_other_without_a_trace(
    frames: NDArray[np.float32],
) -> None:
    device, solver = cuda_device.open_device(0), batch_solver((20, 34))
    work = [(frames[:3], PAIRS[:2]), (frames[2:], PAIRS[:1]), (frames[:3], PAIRS[:2])]
    made = [solver.solve(device.upload(some), pairs.astype(np.int32)) for some, pairs in work]
    alone = enqueue(*work[1])
    wait()
    np.testing.assert_array_equal(made[0].flow.get(), made[2].flow.get())
    np.testing.assert_array_equal(made[1].flow.get(), alone.flow.get())


def test_emulated_clusters_are_enqueued_without_a_wait(able: FakeGpu, frames: NDArray[np.float32]) -> None:
    device, solver = cuda_device.open_device(0), batch_solver((20, 34), "cluster")
    uploaded, before = device.upload(frames), able.current_stream().finished
    result = solver.solve(uploaded, PAIRS[:2].astype(np.int32))
    assert able.current_stream().finished == before < able.current_stream().enqueued
    assert np.isnan(np.asarray(result.flow)).all(), "computed before anybody waited"
    wait()
    assert np.isfinite(result.flow.get()).all()
    assert set(able.launched) == {
        "flowkit_load_grey",
        "flowkit_resample",
        "flowkit_upsample",
        "flowkit_cluster",
    }


def test_emulated_clusters_take_none_of_the_tiles_memory(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = {}
    methods: tuple[Method, ...] = ("tile", "cluster")
    for method in methods:
        gpu = install(monkeypatch, FakeGpu(capability=90, eager=True))
        enqueue(frames, PAIRS[:2], method)
        peaks[method] = gpu.peak
    # Two buffers of u (8 bytes a pixel) and of q (16), and the terms (16).
    assert peaks["tile"] - peaks["cluster"] >= 2 * frames[0].size * (2 * 8 + 2 * 16 + 16)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("method", ["tile", "cluster"])
def test_emulated_counter_is_not_freed_before_its_last_copy(
    method: Method, frames: NDArray[np.float32]
) -> None:
    # No pair converges, so that copies of the counter are open when the host is through.
    params = dataclasses.replace(PARAMS, nscales=1, warps=1, epsilon=1e-6)
    result = enqueue(frames, PAIRS[:2], method, params)
    gc.collect()
    # The emulated copy fails if its memory is gone.
    wait()
    assert (result.iterations.get() == params.iterations).all()


def test_emulated_levels_too_large_for_clusters_are_tiles_and_the_others_clusters(
    able: FakeGpu, waves: Waves
) -> None:
    params = dataclasses.replace(PARAMS, warps=1, iterations=6, scale_step=0.8, epsilon=0.0)
    frames = np.stack([waves((20, 800)), waves((20, 800), (1.3, -0.8))])
    mixed = enqueue(frames, PAIRS[:1], "cluster", params)
    wait()
    assert able.launched["flowkit_cluster"] == 1
    assert able.launched["flowkit_tile"] == 2, "6 iterations of one level with a halo of 5"
    tiles = enqueue(frames, PAIRS[:1], "tile", params)
    wait()
    assert able.launched["flowkit_cluster"] == 1
    np.testing.assert_array_equal(mixed.iterations.get(), np.full((1, 2), 6))
    np.testing.assert_allclose(mixed.flow.get(), tiles.flow.get(), rtol=0, atol=AGREEMENT_PX)
