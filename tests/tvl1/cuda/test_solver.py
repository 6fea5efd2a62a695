"""The driver on an emulated GPU: batches, lanes, memory, errors; and all of it on a real one."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import cuda_small
from flowkit.doctor import examine
from flowkit.errors import BackendError, BackendUnavailableError, InvalidParameterError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import prepare, server_configs
from flowkit.tvl1.backend import available_backends, choose_backend
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda import streams as cuda_lanes
from flowkit.tvl1.cuda.plan import TileShape, bytes_per_pair
from flowkit.tvl1.cuda.tile import TESTS_AHEAD
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.server import server
from tests.tvl1.emulation.emulator import COMPILER, RANDOM
from tests.tvl1.emulation.fake_cupy import FakeGpu, install, make_module

Waves = Callable[..., NDArray[np.float32]]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")

SMALL_TILE = TileShape(columns=1, rows=2, warps=8, halo=5)
QUICK = TVL1Params(nscales=2, warps=2, iterations=20)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return install(monkeypatch, FakeGpu(schedule=(RANDOM, 3)))


@pytest.fixture
def frames(waves: Waves) -> NDArray[np.float32]:
    return np.stack([waves((20, 34), (0.4 * k, -0.3 * k)) for k in range(5)])


PAIRS = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [2, 2]])


def solve(
    frames: NDArray[np.generic],
    pairs: NDArray[np.int_],
    params: TVL1Params = QUICK,
    memory_bytes: int | None = None,
) -> NDArray[np.float32]:
    solver = cuda.load(params, tile=SMALL_TILE, memory_bytes=memory_bytes)
    return solver.flow_batch(frames, pairs)


@needs_compiler
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("preset", ["opencv-cuda", "ipol"])
def test_emulated_batches_and_order_do_not_change_a_bit(preset: str, frames: NDArray[np.float32]) -> None:
    params = dataclasses.replace(PRESETS[preset], warps=2, iterations=20)
    alone = np.concatenate([solve(frames[pair], np.array([[0, 1]]), params) for pair in PAIRS])
    together = solve(frames, PAIRS, params)
    np.testing.assert_array_equal(together, alone)
    two_a_batch = cuda_lanes.LANES * bytes_per_pair((20, 34), params, frame_bytes=4) * 2
    np.testing.assert_array_equal(solve(frames, PAIRS, params, two_a_batch), alone)
    np.testing.assert_array_equal(solve(frames, PAIRS[::-1], params)[::-1], alone)


@needs_compiler
def test_emulated_shortage_of_memory_halves_the_batches_and_says_so(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    expected = solve(frames, PAIRS)
    each = bytes_per_pair((20, 34), QUICK, frame_bytes=4)
    install(monkeypatch, FakeGpu(memory=4 * each, eager=True))
    with pytest.warns(RuntimeWarning, match="GPU memory ran out: batches are now 3 pairs"):
        flow = solve(frames, PAIRS, memory_bytes=18 * each)
    np.testing.assert_array_equal(flow, expected)


@needs_compiler
def test_emulated_frames_beyond_the_memory_are_an_error(
    frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(memory=2 * 20 * 34 * 40))
    with pytest.raises(BackendError, match=r"no memory for one pair of 34x20 px; .*backend 'cpu'"):
        solve(frames, PAIRS[:1])


@needs_compiler
@pytest.mark.parametrize("preset", PRESETS)
def test_emulated_batch_stays_within_the_memory_foreseen(
    preset: str, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(eager=True))
    params = dataclasses.replace(PRESETS[preset], warps=1, iterations=1)
    frames = np.stack([waves((60, 80), (k, 0)) for k in range(6)])
    solve(frames, np.array([[0, 1], [2, 3], [4, 5]]), params)
    foreseen = 3 * bytes_per_pair((60, 80), params, frame_bytes=4)
    # Tables and counters come on top, and do not grow with the pairs.
    assert 0.6 * foreseen < gpu.peak < foreseen + 64 * 1024


@needs_compiler
def test_emulated_stopping_needs_few_launches_more_than_the_slowest_pair(
    gpu: FakeGpu, frames: NDArray[np.float32]
) -> None:
    params = TVL1Params(nscales=1, warps=1)
    solver = cuda.load(params, tile=SMALL_TILE)
    _, iterations = solver.flow_and_iterations(frames, PAIRS)
    assert iterations.min() < iterations.max() < params.iterations
    needed = math.ceil(iterations.max() / 5)
    assert needed <= gpu.launched["flowkit_tile"] <= needed + 2 * TESTS_AHEAD


@needs_compiler
@pytest.mark.usefixtures("gpu")
def test_emulated_bytes_and_floats_of_the_same_values_give_the_same_bits(frames: NDArray[np.float32]) -> None:
    as_bytes = frames.round().astype(np.uint8)
    expected = solve(as_bytes, PAIRS[:2])
    np.testing.assert_array_equal(solve(as_bytes.astype(np.float32), PAIRS[:2]), expected)
    np.testing.assert_array_equal(solve(as_bytes.astype(np.float64), PAIRS[:2]), expected)


@needs_compiler
def test_emulated_start_loads_only_the_kernels_it_needs(
    gpu: FakeGpu, frames: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    code_of = cuda_kernels.cubin

    def note(source: str, *args: object, **kwargs: object) -> bytes:
        loaded.append(source)
        return code_of(source, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cuda_kernels, "cubin", note)
    solve(frames, PAIRS)
    solve(frames, PAIRS)
    assert sorted(loaded) == ["level.cu", "pyramid.cu", "tile.cu"]
    assert "flowkit_median" not in gpu.launched


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


@pytest.mark.usefixtures("gpu")
def test_no_pairs_give_an_empty_flow() -> None:
    assert cuda.load(QUICK).flow_batch(np.zeros((2, 20, 30), np.uint8), []).shape == (0, 2, 20, 30)


@pytest.mark.usefixtures("gpu")
def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="threads must be >= 1, got 0"):
        cuda.load(QUICK).flow_batch(np.zeros((2, 4, 4), np.uint8), [[0, 1]], threads=0)
    with pytest.raises(InvalidParameterError, match="finite"):
        cuda.load(QUICK).flow_batch(np.full((2, 4, 4), np.nan, np.float32), [[0, 1]])
    with pytest.raises(InvalidParameterError, match="memory_bytes must be >= 1, got 0"):
        cuda.load(QUICK, memory_bytes=0)


def test_a_machine_with_a_gpu_takes_it_first(gpu: FakeGpu) -> None:
    choice = choose_backend("auto", QUICK)
    assert (choice.solver.name, choice.solver.device) == ("cuda", "Emulated GPU")
    assert "flowkit-cuda" in available_backends()[0].reason


def test_a_machine_without_cupy_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(cuda, "open_device", cuda_device.open_device.__wrapped__)
    with pytest.raises(BackendUnavailableError, match=r"cupy does not import.*\[cuda12\].*\[cuda13\]"):
        cuda.load(QUICK)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeGpu], None]:
    """Let the engine open a GPU with nothing but the device module replaced."""

    def install_module(gpu: FakeGpu) -> None:
        monkeypatch.setitem(sys.modules, "cupy", make_module(gpu))
        monkeypatch.setattr(cuda, "open_device", functools.cache(cuda_device.open_device.__wrapped__))

    return install_module


def test_a_machine_without_a_driver_names_the_cause(opened: Callable[[FakeGpu], None]) -> None:
    opened(FakeGpu())
    runtime = sys.modules["cupy"].cuda.runtime

    def fail() -> int:
        raise runtime.CUDARuntimeError("cudaErrorInsufficientDriver")

    runtime.getDeviceCount = fail
    with pytest.raises(BackendUnavailableError, match=r"no usable GPU: cudaErrorInsuff.*nvidia-smi"):
        cuda.load(QUICK)


@pytest.mark.parametrize("index", [-1, 1])
def test_a_gpu_that_is_not_there_is_refused(opened: Callable[[FakeGpu], None], index: int) -> None:
    opened(FakeGpu())
    with pytest.raises(BackendUnavailableError, match=rf"no GPU {index}: CUDA shows 1 .*CUDA_VISIBLE"):
        cuda.load(QUICK, gpu=index)


def test_a_machine_without_nvrtc_names_the_remedy(
    opened: Callable[[FakeGpu], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(FakeGpu())
    monkeypatch.setattr(cuda_device, "load_nvrtc", _no_nvrtc)
    with pytest.raises(BackendUnavailableError, match="NVRTC is missing"):
        cuda.load(QUICK)


def _no_nvrtc(major: int | None) -> None:
    raise BackendUnavailableError("NVRTC is missing")


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


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("asked", "expected"), [((), [0, 1, 2]), ((2, 0), [2, 0])])
def test_an_extraction_starts_one_server_for_each_gpu(
    asked: tuple[int, ...], expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", lambda: 3)
    config = ExtractConfig(backend="cuda", gpus=asked, gpu_memory_bytes=1 << 30, params=QUICK)
    configs = server_configs(prepare([], tmp_path / "x.h5", config=config))
    assert [server.gpu for server in configs] == expected
    assert {server.memory_bytes for server in configs} == {1 << 30}


@pytest.mark.usefixtures("gpu")
def test_a_servers_lanes_share_the_memory_that_it_may_take() -> None:
    solver: Any = server._open_solver("cuda", 0, 1001, QUICK)
    assert solver.memory_bytes == math.ceil(1001 / server.LANES)
    unbounded: Any = server._open_solver("cuda", 0, 0, QUICK)
    assert unbounded.memory_bytes is None


@needs_compiler
def test_emulated_small_run_for_checkers_uses_every_kernel(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_small, "open_device", cuda_device.open_device)
    words = ["--size", "20x18", "--pairs", "1", "--presets", "fast,opencv-cpu,ipol", "--iterations", "2"]
    monkeypatch.setattr(sys, "argv", ["cuda_small", *words])
    cuda_small.main()
    text = "".join(cuda_kernels.sources().values())
    kernels = set(re.findall(r"\b(flowkit_\w+)\(", text))
    assert kernels - set(gpu.launched) == {"flowkit_cluster"}
