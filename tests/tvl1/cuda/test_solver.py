"""The driver on an emulated GPU: batches, lanes, memory, errors; and all of it on a real one."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import cuda_small
from flowkit.errors import InvalidParameterError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import prepare, server_configs
from flowkit.tvl1.backend import available_backends, choose_backend
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import modules as cuda_kernels
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda import streams as cuda_lanes
from flowkit.tvl1.cuda.plan import bytes_per_pair
from flowkit.tvl1.params import PRESETS, TVL1Params
from tests.make.cuda import PAIRS, QUICK, solve
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

Waves = Callable[..., NDArray[np.float32]]

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


# Every parameter beyond the published model's.
WHOLE_MODEL = TVL1Params(
    scale_step=0.75,
    warps=2,
    iterations=20,
    gradient_taps=5,
    dual="projected",
    edge_alpha=3.0,
    weighted_median=5,
    weighted_median_after="level",
    weighted_median_spread=0.2,
)


@needs_compiler
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "params",
    [PRESETS["opencv-cuda"], PRESETS["ipol"], WHOLE_MODEL],
    ids=["opencv-cuda", "ipol", "whole model"],
)
def test_emulated_batches_and_order_do_not_change_a_bit(
    params: TVL1Params, frames: NDArray[np.float32]
) -> None:
    params = dataclasses.replace(params, warps=2, iterations=20)
    alone = np.concatenate([solve(frames[pair], np.array([[0, 1]]), params) for pair in PAIRS])
    together = solve(frames, PAIRS, params)
    np.testing.assert_array_equal(together, alone)
    two_a_batch = cuda_lanes.LANES * bytes_per_pair((20, 34), params, frame_bytes=4) * 2
    np.testing.assert_array_equal(solve(frames, PAIRS, params, two_a_batch), alone)
    np.testing.assert_array_equal(solve(frames, PAIRS[::-1], params)[::-1], alone)


@needs_compiler
@pytest.mark.parametrize("params", [*PRESETS.values(), WHOLE_MODEL], ids=[*PRESETS, "whole model"])
def test_emulated_batch_stays_within_the_memory_foreseen(
    params: TVL1Params, waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = install(monkeypatch, FakeGpu(eager=True))
    params = dataclasses.replace(params, warps=1, iterations=1)
    frames = np.stack([waves((60, 80), (k, 0)) for k in range(6)])
    solve(frames, np.array([[0, 1], [2, 3], [4, 5]]), params)
    foreseen = 3 * bytes_per_pair((60, 80), params, frame_bytes=4)
    # Tables and counters come on top, and do not grow with the pairs.
    assert 0.6 * foreseen < gpu.peak < foreseen + 64 * 1024


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


@needs_compiler
def test_emulated_small_run_for_checkers_uses_every_kernel(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_small, "open_device", cuda_device.open_device)
    words = ["--size", "24x22", "--pairs", "1", "--iterations", "2"]
    words += ["--presets", "fast", "opencv-cpu", "ipol"]
    monkeypatch.setattr(sys, "argv", ["cuda_small", *words])
    cuda_small.main()
    text = "".join(cuda_kernels.sources().values())
    kernels = set(re.findall(r"\b(flowkit_\w+)\(", text))
    assert kernels - set(gpu.launched) == {"flowkit_cluster"}
