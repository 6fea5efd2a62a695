"""Frames on the device, of cupy, torch and others, as stand-ins of them."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.interop import device_index
from flowkit.tvl1.cuda.plan import TileShape, bytes_per_pair
from flowkit.tvl1.params import TVL1Params
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeArray, FakeGpu, Stream, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

TILE = TileShape(columns=1, rows=2, warps=8, halo=5)
PARAMS = TVL1Params(warps=1, iterations=10)
PAIRS = [[0, 1], [1, 2], [2, 0]]


class Tensor:
    """A torch CUDA tensor, as far as the engine looks at one."""

    __module__ = "torch"
    device = "cuda:0"

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def detach(self) -> Tensor:
        return Tensor(self.memory)


class Older:
    """An array that speaks the CUDA array interface alone."""

    def __init__(self, memory: FakeArray) -> None:
        self.memory = memory
        self.__cuda_array_interface__: dict[str, Any] = {"data": (memory.ctypes.data, False)}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return install(monkeypatch, FakeGpu())


@pytest.fixture
def host_frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 17, 20), dtype=np.uint8)


def on_device(values: NDArray[Any]) -> FakeArray:
    array = cuda_device.open_device(0).upload(values)
    assert isinstance(array, FakeArray)
    return array


@needs_compiler
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_emulated_cupy_frames_give_a_cupy_flow_of_the_same_bits(
    dtype: type, host_frames: NDArray[np.uint8]
) -> None:
    solver = cuda.load(PARAMS, tile=TILE)
    frames = on_device(host_frames.astype(dtype))
    flow: Any = solver.flow_batch(frames, PAIRS)
    assert isinstance(flow, FakeArray)
    np.testing.assert_array_equal(flow.get(), solver.flow_batch(host_frames, PAIRS))


@needs_compiler
def test_emulated_torch_frames_stay_on_torchs_stream_and_give_a_tensor(
    gpu: FakeGpu, host_frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.streams[77] = Stream(gpu, 77)
    torch: Any = types.ModuleType("torch")
    torch.from_dlpack = Tensor
    torch.cuda = types.SimpleNamespace(current_stream=lambda device: types.SimpleNamespace(cuda_stream=77))
    monkeypatch.setitem(sys.modules, "torch", torch)
    solver = cuda.load(PARAMS, tile=TILE)
    expected = solver.flow_batch(host_frames, PAIRS)
    frames = Tensor(on_device(host_frames))
    gpu.current_stream().synchronize()
    elsewhere = gpu.current_stream().enqueued
    flow: Any = solver.flow_batch(frames, PAIRS)  # type: ignore[arg-type]
    assert isinstance(flow, Tensor)
    assert gpu.current_stream().enqueued == elsewhere
    assert gpu.streams[77].enqueued > 0
    gpu.streams[77].synchronize()
    np.testing.assert_array_equal(np.asarray(flow.memory), expected)


@needs_compiler
@pytest.mark.usefixtures("gpu")
def test_emulated_arrays_of_the_older_interface_are_taken_too(host_frames: NDArray[np.uint8]) -> None:
    solver = cuda.load(PARAMS, tile=TILE)
    flow: Any = solver.flow_batch(Older(on_device(host_frames)), PAIRS)  # type: ignore[arg-type]
    np.testing.assert_array_equal(flow.get(), solver.flow_batch(host_frames, PAIRS))


@needs_compiler
def test_emulated_arrays_of_the_older_interface_are_solved_on_their_own_gpu(
    host_frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeGpu(), FakeGpu(index=1)
    install(monkeypatch, first, second)
    device = cuda_device.open_device(1)
    with device.using():
        frames = Older(device.upload(host_frames))
    assert device_index(frames) == 1
    cuda.load(PARAMS, tile=TILE).flow_batch(frames, PAIRS)  # type: ignore[arg-type]
    assert not first.launched
    assert second.launched


def test_an_older_interface_to_the_hosts_memory_is_refused(gpu: FakeGpu) -> None:
    frames = Older(np.zeros(4).view(FakeArray))
    with pytest.raises(InvalidParameterError, match=r"in a GPU's memory, got 0x\w+: it is the host's"):
        device_index(frames)


@needs_compiler
@pytest.mark.parametrize("pairs", [[[0, 39], [39, 20]], [[3, 2], [2, 4]]], ids=["far apart", "close"])
def test_emulated_frames_that_no_pair_names_cost_no_pyramid(
    pairs: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(eager=True))
    frames = np.random.default_rng(0).integers(0, 256, (40, 17, 20), dtype=np.uint8)
    solver = cuda.load(PARAMS, tile=TILE)
    expected = solver.flow_batch(frames, pairs)
    on_gpu = on_device(frames)
    before = gpu.peak = gpu.used
    flow: Any = solver.flow_batch(on_gpu, pairs)
    np.testing.assert_array_equal(flow.get(), expected)
    assert gpu.peak - before < 2 * bytes_per_pair((17, 20), PARAMS, frame_bytes=1) + 16 * 1024


@needs_compiler
def test_emulated_shortage_of_memory_halves_the_batches_in_place_too(
    host_frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    expected = cuda.load(PARAMS, tile=TILE).flow_batch(host_frames, PAIRS)
    each = bytes_per_pair((17, 20), PARAMS, frame_bytes=1)
    install(monkeypatch, FakeGpu(memory=int(1.8 * each), eager=True))
    solver = cuda.load(PARAMS, tile=TILE, memory_bytes=100 * each)
    with pytest.warns(RuntimeWarning, match="memory ran out"):
        flow: Any = solver.flow_batch(on_device(host_frames), PAIRS)
    np.testing.assert_array_equal(flow.get(), expected)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((4, 5), np.uint8), r"floating \(n, H, W\), got uint8 \(4, 5\)"),
        (np.zeros((0, 4, 5), np.uint8), r"non-empty .*got uint8 \(0, 4, 5\)"),
        (np.zeros((2, 4, 5), np.int32), r"uint8 or floating \(n, H, W\), got int32"),
    ],
)
def test_device_arrays_that_are_no_frames_are_refused(frames: NDArray[Any], words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        cuda.load(PARAMS).flow_batch(on_device(frames), PAIRS)


@pytest.mark.usefixtures("gpu")
def test_pairs_without_a_frame_on_the_device_are_refused(host_frames: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidParameterError, match=r"indices in \[0, 4\), got 0 to 4"):
        cuda.load(PARAMS).flow_batch(on_device(host_frames), [[0, 4]])


def test_arrays_on_the_host_are_on_no_gpu() -> None:
    assert device_index(np.zeros(3)) is None
    assert device_index([1, 2]) is None
