"""One GPU through cupy, emulated: its opening, copies, streams, and kernels loaded once."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import sys
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.doctor import examine
from flowkit.errors import BackendUnavailableError, GpuMemoryError
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda import streams as cuda_lanes
from flowkit.tvl1.cuda.device import CudaDevice, KernelFile, blocks, count_gpus
from flowkit.tvl1.cuda.plan import bytes_per_pair
from tests.make.cuda import PAIRS, QUICK, solve
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install, make_module

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


@needs_compiler
def test_emulated_lanes_that_start_together_compile_each_kernel_once(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    loaded: list[str] = []
    code_of = cuda_kernels.cubin

    def slow(source: str, *args: object, **kwargs: object) -> bytes:
        loaded.append(source)
        time.sleep(0.02)
        return code_of(source, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cuda_kernels, "cubin", slow)
    one_a_batch = cuda_lanes.LANES * bytes_per_pair((20, 34), QUICK, frame_bytes=4)
    solve(frames, PAIRS[:3], memory_bytes=one_a_batch)
    assert sorted(loaded) == ["level.cu", "pyramid.cu", "tile.cu"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeGpu], None]:
    """Let the engine open a GPU with nothing but the device module replaced."""

    def install_module(gpu: FakeGpu) -> None:
        monkeypatch.setitem(sys.modules, "cupy", make_module(gpu))
        monkeypatch.setattr(cuda, "open_device", functools.cache(cuda_device.open_device.__wrapped__))

    return install_module


def test_a_machine_without_cupy_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(cuda, "open_device", cuda_device.open_device.__wrapped__)
    with pytest.raises(BackendUnavailableError, match=r"cupy does not import.*\[cuda12\].*\[cuda13\]"):
        cuda.load(QUICK)


def test_a_machine_without_a_driver_names_the_cause(opened: Callable[[FakeGpu], None]) -> None:
    opened(FakeGpu())
    runtime = sys.modules["cupy"].cuda.runtime

    def fail() -> int:
        raise runtime.CUDARuntimeError(35)

    runtime.getDeviceCount = fail
    with pytest.raises(BackendUnavailableError, match=r"no usable GPU: cudaErrorInsuff.*nvidia-smi"):
        cuda.load(QUICK)


@pytest.mark.parametrize("index", [-1, 1])
def test_a_gpu_that_is_not_there_is_refused(opened: Callable[[FakeGpu], None], index: int) -> None:
    opened(FakeGpu())
    with pytest.raises(BackendUnavailableError, match=rf"no GPU {index}: CUDA shows 1 .*CUDA_VISIBLE"):
        cuda.load(QUICK, gpu=index)


def _no_nvrtc(major: int | None) -> None:
    raise BackendUnavailableError("NVRTC is missing")


def test_a_machine_without_nvrtc_names_the_remedy(
    opened: Callable[[FakeGpu], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(FakeGpu())
    monkeypatch.setattr(cuda_device, "load_nvrtc", _no_nvrtc)
    with pytest.raises(BackendUnavailableError, match="NVRTC is missing"):
        cuda.load(QUICK)


def test_doctor_explains_why_there_is_no_cuda(
    opened: Callable[[FakeGpu], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        (line,) = [f for f in examine() if f.topic == "TV-L1" and f.text.startswith("cuda:")]
        assert line.level == "note"
        return line.text

    opened(FakeGpu(capability=70))
    monkeypatch.setattr(cuda_device, "load_nvrtc", lambda major: None)
    assert "the GPU is too old: compute capability 7.0, expected 7.5 or newer; use backend 'cpu'" in said()
    opened(FakeGpu())
    monkeypatch.setattr(cuda_device, "load_nvrtc", _no_nvrtc)
    assert "NVRTC is missing" in said()
    opened(FakeGpu())
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", lambda: 0)
    assert "no GPU 0: CUDA shows 0 to this process" in said()
    monkeypatch.setitem(sys.modules, "cupy", None)
    opened_again = functools.cache(cuda_device.open_device.__wrapped__)
    monkeypatch.setattr(cuda, "open_device", opened_again)
    assert "cupy does not import" in said()


@pytest.fixture
def device(gpu: FakeGpu) -> CudaDevice:
    return cuda_device.open_device(0)


def ask_until_done(device: CudaDevice) -> None:
    """Wait for what the current stream has to do."""
    device.faults.wait(device.event())


def test_a_device_is_described_by_what_the_runtime_says(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu(capability=121))
    device = cuda_device.open_device(0)
    assert (device.name, device.index) == ("Emulated GPU", 0)
    assert (device.capability, device.cuda_major) == (121, 13)
    assert (device.processors, device.shared_bytes) == (2, 227 * 1024)


def test_a_gpu_is_opened_once_a_process(device: CudaDevice) -> None:
    assert cuda_device.open_device(0) is device


def test_gpus_are_counted_and_a_machine_without_cupy_or_driver_names_the_cause(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", lambda: 3)
    assert count_gpus() == 3
    runtime = sys.modules["cupy"].cuda.runtime

    def fail() -> int:
        raise runtime.CUDARuntimeError(35)

    monkeypatch.setattr(runtime, "getDeviceCount", fail)
    with pytest.raises(BackendUnavailableError, match=r"no usable GPU: cudaErrorInsufficientDriver"):
        count_gpus()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailableError, match="cupy does not import"):
        count_gpus()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(24, dtype=np.float32).reshape(4, 6).T,
        np.arange(40, dtype=np.uint8)[::3],
        np.zeros((0, 5), np.int32),
    ],
    ids=["contiguous", "transposed", "strided", "empty"],
)
def test_arrays_arrive_on_the_device_and_come_back_as_they_were(
    values: NDArray[np.generic], device: CudaDevice
) -> None:
    host = device.pinned(values.shape, values.dtype)
    array = device.upload(values)
    device.download_into(host, array)
    ask_until_done(device)
    assert (array.shape, array.dtype) == (values.shape, values.dtype)
    np.testing.assert_array_equal(host, values)


def test_copies_happen_in_the_order_of_the_stream_and_not_before(device: CudaDevice) -> None:
    landed = device.pinned((3,), np.int32)
    untouched = landed.tolist()
    device.download_into(landed, device.upload(np.array([1, 2, 3], np.int32)))
    second = device.upload(landed)
    assert landed.tolist() == untouched != [1, 2, 3]
    ask_until_done(device)
    assert second.tolist() == landed.tolist() == [1, 2, 3]


def test_zeros_are_zero_and_taken_entries_are_copies_in_the_order_asked(device: CudaDevice) -> None:
    source = device.upload(np.arange(12, dtype=np.float32).reshape(4, 3))
    taken = device.take(source, np.array([3, 0, 3]))
    zeros = device.zeros((2, 2), np.int32)
    ask_until_done(device)
    source[...] = -1
    assert taken.tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]
    assert zeros.tolist() == [[0, 0], [0, 0]]


def test_a_stream_of_ones_own_has_done_all_when_it_ends_even_by_an_error(
    device: CudaDevice, gpu: FakeGpu
) -> None:
    for fault in (None, ZeroDivisionError):
        with contextlib.suppress(ZeroDivisionError), device.own_stream():
            stream = gpu.current_stream()
            array = device.upload(np.arange(5))
            assert stream.finished < stream.enqueued
            if fault:
                raise fault
        assert stream.finished == stream.enqueued > 0
        assert array.tolist() == [0, 1, 2, 3, 4]
        assert gpu.current_stream() is not stream


def test_streams_are_kept_and_never_shared_by_two_at_once(device: CudaDevice, gpu: FakeGpu) -> None:
    with device.own_stream():
        first = gpu.current_stream()
        with device.own_stream():
            second = gpu.current_stream()
    assert second is not first
    with device.own_stream(), device.own_stream():
        again = gpu.stack()[-2:]
        assert len(again) == 2
        assert {id(stream) for stream in again} == {id(first), id(second)}


class Held:
    """Host memory that a copy writes to."""


def test_kept_memory_lives_until_the_work_before_it_is_done(device: CudaDevice, gpu: FakeGpu) -> None:
    device.zeros((4,), np.int32)
    resource = Held()
    alive = weakref.ref(resource)
    device.keep_until_done(resource)
    del resource
    device.keep_until_done(None)
    gc.collect()
    assert alive() is not None
    gpu.current_stream().synchronize()
    device.keep_until_done(None)
    gc.collect()
    assert alive() is None


def test_the_time_between_marks_is_in_seconds(device: CudaDevice) -> None:
    first, second = device.mark(), device.mark()
    ask_until_done(device)
    first.happened, second.happened = 3.0, 3.25  # type: ignore[attr-defined]
    assert device.seconds_between(first, second) == 0.25


def test_memory_is_counted_with_what_the_pool_keeps_and_refused_beyond_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, FakeGpu(memory=1000))
    device = cuda_device.open_device(0)
    held = device.empty((100,), np.float32)
    assert device.free_bytes() == 1000 - held.nbytes
    monkeypatch.setattr(device.cupy.get_default_memory_pool(), "free_bytes", lambda: 64)
    assert device.free_bytes() == 664
    with pytest.raises(GpuMemoryError), device.faults.boundary():
        device.empty((601,), np.uint8)


@needs_compiler
def test_a_launch_asks_for_its_shared_memory_once(device: CudaDevice, gpu: FakeGpu) -> None:
    kernel = (KernelFile(source="pyramid.cu"), "flowkit_load_grey")
    # Only enqueued: the arguments are never read.
    for _ in range(2):
        device.launch(kernel, (1,), 32, (), shared_bytes=1024)
    assert gpu.attributes == [(8, 1024), (14, 1)]
    device.launch(kernel, (1,), 32, (), shared_bytes=4096)
    assert gpu.attributes[2:] == [(8, 4096), (14, 1)]
    device.launch(kernel, (1,), 32, ())
    assert len(gpu.attributes) == 4
    assert gpu.launched == {"flowkit_load_grey": 4}


def test_kernel_files_are_the_same_whatever_the_order_of_their_macros() -> None:
    one, other = KernelFile.of("tile.cu", {"A": 1, "B": 2}), KernelFile.of("tile.cu", {"B": 2, "A": 1})
    assert one == other
    assert len({one, other, KernelFile.of("tile.cu", {"A": 1, "B": 3}), KernelFile(source="tile.cu")}) == 3


def test_blocks_cover_the_threads_without_an_empty_one() -> None:
    assert blocks(257) == 2
    for count, threads in itertools.product((1, 31, 32, 33, 64, 1_000_001), (1, 32, 33)):
        assert (blocks(count, threads) - 1) * threads < count <= blocks(count, threads) * threads
