"""Faults of the device, injected: each ends a call within five seconds, with its cause."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import (
    BackendError,
    BackendUnavailableError,
    GpuError,
    GpuMemoryError,
    InvalidParameterError,
)
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.cuda import cluster as cuda_cluster
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import driver as cuda_driver
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import BatchSolver, Method
from flowkit.tvl1.cuda.faults import PATIENCE_SECONDS, DeviceFaults, Event, patience_seconds
from flowkit.tvl1.cuda.plan import Launch, bytes_per_pair, cluster_seconds, work_seconds
from flowkit.tvl1.cuda.tile import TileSolver
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes
from tests.make.cuda import PAIRS, QUICK, SMALL_TILE, solve
from tests.make.deadline import ends_in_time
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import CUDARuntimeError, FakeGpu, Fault, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "0.5")


def install_with(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> FakeGpu:
    """Install a GPU whose kernels are compiled already: no compiler's time counts as the fault's."""
    install(monkeypatch, FakeGpu())
    some = np.zeros((2, 20, 34), np.float32)
    cuda.load(QUICK, tile=SMALL_TILE).codes_batch(some, [[0, 1]], quantizer=FIELD_SCALE)
    return install(monkeypatch, FakeGpu(faults=[fault]))


@needs_compiler
@pytest.mark.parametrize("kernel", ["flowkit_load_grey", "flowkit_linearise", "flowkit_tile"])
@pytest.mark.parametrize("status", [700, 716, 719, 214])
def test_device_fault_of_a_kernel_is_reported_with_gpu_status_and_launch(
    kernel: str, status: int, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_with(monkeypatch, Fault(kind="status", status=status, kernel=kernel))
    cause = str(CUDARuntimeError(status)).split(":")[0]
    with pytest.raises(
        GpuError,
        match=rf"GPU 0 \(Emulated GPU\) failed: {cause}.*after the launch of flowkit_\w+ of level \d",
    ):
        ends_in_time(lambda: solve(frames, PAIRS))


@needs_compiler
def test_device_fault_is_raised_again_by_every_later_call(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install_with(monkeypatch, Fault(kind="status", kernel="flowkit_tile"))
    solver = cuda.load(QUICK, tile=SMALL_TILE)
    with pytest.raises(GpuError) as first:
        ends_in_time(lambda: solver.flow_batch(frames, PAIRS))
    launched = dict(gpu.launched)
    for _ in range(2):
        with pytest.raises(GpuError) as later:
            ends_in_time(lambda: solver.flow_batch(frames, PAIRS))
        assert str(later.value) == str(first.value)
    assert gpu.launched == launched, "nothing is launched on a GPU that failed"
    # It is no engine any more, so that "auto" takes the next one.
    with pytest.raises(BackendUnavailableError, match=r"cuda: GPU 0 .* failed: cudaErrorIllegal"):
        cuda.load(QUICK)
    assert choose_backend("auto", QUICK).name != "cuda"


@needs_compiler
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("epsilon", [0.01, 0.0], ids=["the host waits for tests", "for the end alone"])
def test_device_fault_of_a_kernel_without_an_end_is_given_up(
    epsilon: float, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_with(monkeypatch, Fault(kind="hang", kernel="flowkit_tile", after=2))
    params = TVL1Params(nscales=2, warps=2, iterations=20, epsilon=epsilon)
    with pytest.raises(GpuError, match=r"no end of its work in 0\.\d s, after the launch of flowkit_"):
        ends_in_time(lambda: solve(frames, PAIRS, params))


@needs_compiler
@pytest.mark.usefixtures("impatient")
def test_device_fault_of_a_call_that_does_not_return_is_seen_from_outside(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install_with(monkeypatch, Fault(kind="blocked", kernel="flowkit_tile", after=1))
    solver = cuda.load(QUICK, tile=SMALL_TILE)
    assert solver.failure() is None

    def blocked() -> None:
        with contextlib.suppress(BackendError):
            solver.flow_batch(frames, PAIRS)

    caller = threading.Thread(target=blocked, daemon=True)
    caller.start()

    def seen() -> GpuError:
        while (error := solver.failure()) is None:
            time.sleep(0.02)
        return error

    assert "a call into the driver has not returned" in str(ends_in_time(seen))
    with pytest.raises(GpuError, match="has not returned"):
        ends_in_time(lambda: solver.flow_batch(frames, PAIRS))
    gpu.unblocked.set()
    caller.join(5)
    assert not caller.is_alive()


@needs_compiler
@pytest.mark.parametrize("status", [701, 209])
def test_device_fault_of_a_refused_launch_names_the_kernel_and_leaves_the_gpu(
    status: int, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install_with(monkeypatch, Fault(kind="refused", status=status, kernel="flowkit_tile"))
    with pytest.raises(GpuError, match=r"GPU 0 .* refused flowkit_tile of level 1: cudaError.*doctor --gpu"):
        ends_in_time(lambda: solve(frames, PAIRS))
    gpu.faults = []
    assert np.isfinite(ends_in_time(lambda: solve(frames, PAIRS))).all()


@needs_compiler
def test_device_fault_of_memory_while_pinned_memory_is_short_halves_the_batch(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    expected = solve(frames, PAIRS)
    # Of six pairs: five frames of 2,720 bytes, and flow of 5,440 a pair.
    install(monkeypatch, FakeGpu(pinned_memory=36_000))
    with pytest.warns(RuntimeWarning, match=r"or pinned memory: batches are now \d pairs"):
        flow = ends_in_time(lambda: solve(frames, PAIRS), seconds=20)
    np.testing.assert_array_equal(flow, expected)


@needs_compiler
def test_device_fault_of_memory_without_room_for_one_pair_is_an_error_of_its_size(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    for gpu in (FakeGpu(pinned_memory=1000), FakeGpu(memory=30_000)):
        install(monkeypatch, gpu)
        with pytest.raises(BackendError, match=r"no memory for one pair of 34x20 px"):
            ends_in_time(lambda: solve(frames, PAIRS[:1]))
    install(monkeypatch, FakeGpu(memory=1000))
    with pytest.raises(BackendError, match=r"GPU 0 \(Emulated GPU\): memory ran out .*backend 'cpu'"):
        ends_in_time(lambda: solve(frames, PAIRS[:1]))


def test_device_fault_while_a_gpu_is_opened_is_an_engine_that_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = install(monkeypatch, FakeGpu())
    gpu.sticky = 214
    with pytest.raises(BackendUnavailableError, match=r"GPU 0 cannot be used: cudaErrorECC.*nvidia-smi"):
        ends_in_time(lambda: cuda.load(QUICK))


@needs_compiler
def test_device_fault_of_clusters_that_do_not_fit_leaves_the_level_to_tiles_with_a_word(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(capability=90, clusters=0))
    expected = solve(frames, PAIRS)
    solver = cuda.load(QUICK, tile=SMALL_TILE, method="cluster")
    with pytest.warns(RuntimeWarning, match=r"no clusters of \d+ blocks of \d+ threads .* tiles solve"):
        flow = ends_in_time(lambda: solver.flow_batch(frames, PAIRS), seconds=20)
    assert "flowkit_cluster" not in gpu.launched
    np.testing.assert_array_equal(flow, expected)


@needs_compiler
def test_device_fault_of_a_driver_without_clusters_leaves_them_to_tiles_with_its_word(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(capability=90))

    def too_old(function: int, **shape: int) -> tuple[int, int]:
        raise BackendUnavailableError("cuda: the driver does not know clusters")

    monkeypatch.setattr(cuda_driver, "max_active_clusters", too_old)
    solver = cuda.load(QUICK, tile=SMALL_TILE, method="cluster")
    with pytest.warns(RuntimeWarning, match="driver does not know clusters.*tiles solve that level"):
        solver.flow_batch(frames, PAIRS[:1])
    assert "flowkit_cluster" not in gpu.launched


@needs_compiler
def test_device_fault_while_clusters_are_counted_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = install(monkeypatch, FakeGpu(capability=90))
    device, shape = cuda_device.open_device(0), cuda_cluster.cluster_shape((20, 34))
    assert shape is not None
    assert cuda_cluster.active_clusters(device, shape) == 2
    gpu.sticky = 719
    with pytest.raises(GpuError, match="cudaErrorLaunchFailure"):
        cuda_cluster.active_clusters(device, shape)


def test_an_error_in_the_callers_code_is_not_taken_for_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    device = cuda_device.open_device(0)

    def fail() -> None:
        with device.faults.boundary(), device.own_stream():
            device.zeros((4,), np.int32)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ends_in_time(fail)
    assert device.faults.fault is None


def test_memory_that_ran_out_is_no_fault_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu(memory=100, pinned_memory=100))
    device = cuda_device.open_device(0)
    for take in (device.empty, device.pinned):
        with pytest.raises(GpuMemoryError, match=r"GPU 0 \(Emulated GPU\)"), device.faults.boundary():
            take((200,), np.uint8)
    assert device.faults.fault is None


def test_a_process_that_was_stopped_has_not_waited_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of the whole process counts half a second, so that the event is asked for again."""
    install(monkeypatch, FakeGpu())
    device = cuda_device.open_device(0)
    device.zeros((4,), np.int32)
    event = device.event()
    times = iter(range(1_000_000, 10_000_000, 1000))
    with monkeypatch.context() as patch, device.faults.boundary():
        patch.setattr("flowkit.tvl1.cuda.faults.time.monotonic", lambda: float(next(times)))
        assert device.faults.stuck() is None
        device.faults.wait(event)
    assert device.faults.fault is None


@pytest.mark.parametrize("text", ["0", "-1", "soon"])
def test_a_patience_that_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", text)
    with pytest.raises(InvalidParameterError, match=f"FLOWKIT_GPU_PATIENCE must be .* got '{text}'"):
        patience_seconds()
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "2.5")
    assert patience_seconds() == 2.5
    monkeypatch.delenv("FLOWKIT_GPU_PATIENCE")
    assert patience_seconds() == PATIENCE_SECONDS


def test_a_usual_batch_that_does_not_end_is_given_up_within_five_seconds() -> None:
    """16 pairs, as a worker sends them; a full batch of the finest level takes as much longer as it may."""
    params = PRESETS["opencv-cuda"]
    assert PATIENCE_SECONDS + work_seconds(16, (240, 320), params, iterations_ahead=100) < 5
    full = work_seconds(256, (240, 320), params, iterations_ahead=100)
    # 2 10^9 pixel-iterations at the slowest rate.
    assert 1.9 < full < 2.5
    assert work_seconds(256, (240, 320), params, iterations_ahead=None) > 10 * full


def test_a_usual_batch_of_clusters_that_does_not_end_is_given_up_within_five_seconds() -> None:
    params, sizes = PRESETS["opencv-cuda"], level_sizes((240, 320), PRESETS["opencv-cuda"])
    assert PATIENCE_SECONDS + cluster_seconds(16, sizes, params) < 5
    assert 7 < cluster_seconds(256, sizes, params) < 7.5


@needs_compiler
@pytest.mark.parametrize(
    ("method", "change", "expected"),
    [("tile", {}, "tile"), ("cluster", {}, "cluster"), ("cluster", {"median": 5}, "tile")],
)
def test_a_batchs_longest_time_is_that_of_the_solver_that_takes_it(
    method: Method, change: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(capability=90))
    params = dataclasses.replace(QUICK, iterations=300, **change)  # type: ignore[arg-type]
    batch = BatchSolver(cuda_device.open_device(0), params, (30, 40), tile=SMALL_TILE, method=method)
    sizes = level_sizes((30, 40), params)
    ahead = TileSolver(cuda_device.open_device(0), params, sizes, SMALL_TILE).iterations_ahead
    by_tiles = work_seconds(16, (30, 40), params, iterations_ahead=ahead)
    by_clusters = cluster_seconds(16, sizes, params)
    assert batch.work_seconds(16) == (by_tiles if expected == "tile" else by_clusters)


@needs_compiler
def test_frames_on_another_gpu_are_solved_there(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeGpu(), FakeGpu(index=1)
    install(monkeypatch, first, second)
    solver = cuda.load(QUICK, tile=SMALL_TILE)
    expected = solver.flow_batch(frames, PAIRS)
    launched = dict(first.launched)
    elsewhere = cuda_device.open_device(1)
    with elsewhere.using():
        on_second = elsewhere.upload(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = solver.flow_batch(on_second, PAIRS)
    np.testing.assert_array_equal(flow.get(), expected)  # type: ignore[attr-defined]
    assert first.launched == launched
    assert second.launched["flowkit_tile"] > 0
    assert bytes_per_pair((20, 34), QUICK, frame_bytes=4) < second.peak


@needs_compiler
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["module", "release"])
def test_device_fault_of_a_call_outside_of_kernels_that_does_not_return_is_seen_from_outside(
    where: str, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, blocked = install(monkeypatch, FakeGpu(pinned_memory=36_000)), threading.Event()
    load = gpu.load

    def slow_load(code: bytes) -> object:
        if where == "module" and b"tile.cu" in code:
            blocked.wait()
        return load(code)

    monkeypatch.setattr(gpu, "load", slow_load)
    pool = cuda_device.open_device(0).cupy.get_default_memory_pool()
    monkeypatch.setattr(pool, "free_all_blocks", blocked.wait if where == "release" else lambda: None)
    solver = cuda.load(QUICK, tile=SMALL_TILE)

    def call() -> None:
        with contextlib.suppress(BackendError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solver.flow_batch(frames, PAIRS)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()

    def seen() -> GpuError:
        while (error := solver.failure()) is None:
            time.sleep(0.02)
        return error

    assert "a call into the driver has not returned" in str(ends_in_time(seen, seconds=20))
    blocked.set()
    caller.join(20)
    assert not caller.is_alive()


@pytest.mark.parametrize("status", [400, 701, 209])
def test_an_error_that_does_not_stay_leaves_the_gpu(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    device = cuda_device.open_device(0)
    with pytest.raises(GpuError, match="refused a call"):
        device.faults.check_status(status)
    assert device.faults.fault is None


@needs_compiler
@pytest.mark.usefixtures("impatient")
def test_the_callers_own_work_before_ours_is_no_fault_however_long(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu())
    solve(frames, PAIRS)
    device = cuda_device.open_device(0)
    with device.using():
        held = device.upload(frames)
    stream, ends = gpu.current_stream(), time.monotonic() + 1.5
    advance = stream.advance

    def later(until: int) -> None:
        if time.monotonic() > ends:
            advance(until)

    monkeypatch.setattr(stream, "advance", later)
    flow = ends_in_time(lambda: solve(held, PAIRS), seconds=20)
    assert time.monotonic() > ends
    assert flow.shape == (len(PAIRS), 2, 20, 34)


def test_the_patience_counts_all_work_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small batch may have to wait for the large ones beside it."""
    monkeypatch.setenv("FLOWKIT_GPU_PATIENCE", "1")
    install(monkeypatch, FakeGpu())
    faults = cuda_device.open_device(0).faults
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with faults.boundary(10.0):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    with faults.boundary(2.0), faults.boundary(0.5):
        assert faults._patience() == 13.0
    assert faults._patience() == 11.0
    leave.set()
    thread.join(10)
    assert faults._patience() == 1.0


@needs_compiler
@pytest.mark.parametrize(("iterations", "warps"), [(30, 4), (40, 3), (120, 2), (41, 3)])
def test_the_host_waits_as_often_as_the_patience_assumes(
    iterations: int, warps: int, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an epsilon that no pair reaches, each iteration is enqueued."""
    install(monkeypatch, FakeGpu())
    params = TVL1Params(nscales=1, warps=warps, iterations=iterations, epsilon=1e-9)
    enqueued, most = 0, 0
    iterate, wait, happened = TileSolver._iterate, DeviceFaults.wait, DeviceFaults.happened

    def counted(self: TileSolver, level: int, launch: Launch, *rest: object) -> None:
        nonlocal enqueued
        enqueued += launch.steps
        iterate(self, level, launch, *rest)  # type: ignore[arg-type]

    def waited(self: DeviceFaults, event: Event, **options: bool) -> None:
        nonlocal enqueued, most
        most, enqueued = max(most, enqueued), 0
        with monkeypatch.context() as patch:
            patch.setattr(DeviceFaults, "happened", happened)
            wait(self, event, **options)

    monkeypatch.setattr(TileSolver, "_iterate", counted)
    monkeypatch.setattr(DeviceFaults, "wait", waited)
    # The slowest GPU: nothing has happened until it is waited for.
    monkeypatch.setattr(DeviceFaults, "happened", lambda self, event: False)
    cuda.load(params, tile=SMALL_TILE).flow_batch(frames, PAIRS[:2])
    tiles = TileSolver(cuda_device.open_device(0), params, [(20, 34)], SMALL_TILE)
    assert most <= (tiles.iterations_ahead or warps * iterations)
    assert (tiles.iterations_ahead is None) == (iterations <= 40)


def test_device_fault_of_gpu_0_costs_the_threads_of_gpu_1_nothing(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving a device makes the one before current again, which must not be one that failed."""
    first = install(monkeypatch, FakeGpu(), FakeGpu(index=1))
    solver = cuda.load(QUICK, gpu=1)
    first.sticky = 214
    device = cuda_device.open_device(1)

    def work() -> None:
        solver.enter_thread()
        with device.faults.boundary(), device.using():
            device.zeros((4,), np.int32)

    ends_in_time(work)
    assert device.faults.fault is None


def test_the_first_gpu_that_can_be_used_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu(capability=61), FakeGpu(capability=90, index=1))

    def target(capability: int, nvrtc: object) -> int:
        if capability < 75:
            raise BackendUnavailableError("the GPU is too old")
        return capability

    monkeypatch.setattr("flowkit.tvl1.cuda.modules.target_architecture", target)
    assert cuda.load(QUICK).gpu == 1
    assert choose_backend("auto", QUICK).name == "cuda"
    with pytest.raises(BackendUnavailableError, match="too old"):
        cuda.load(QUICK, gpu=0)
