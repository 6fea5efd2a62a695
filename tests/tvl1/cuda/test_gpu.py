"""The engine on a real GPU; what runs without one is in the files beside this one.

Bare GPU machines run this file alone, without the suite's conftest.py: it needs cupy, cv2, joblib,
h5py and pytest, nothing to decode videos with but cv2, and no fixtures but those of this folder.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit.errors import BackendUnavailableError
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import prepare, run
from flowkit.extraction.sources import find_sources
from flowkit.frames import pair_indices, to_grey
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1 import cpu
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.cuda.quantize import checked_largest, enqueue_codes
from flowkit.tvl1.cuda.streams import STAGES
from flowkit.tvl1.engine import FlowCodes
from flowkit.tvl1.params import DEFAULT_PRESET, PRESETS
from flowkit.tvl1.reference.solver import tvl1_flow
from tests.make.codes import check_equal, extreme_flows, field_codes, rules
from tests.make.cuda import EQUAL_CODES

Waves = Callable[..., NDArray[np.float32]]


def require_gpu() -> None:
    """Skip where there is no GPU; fail instead where FLOWKIT_REQUIRE_CUDA=1."""
    try:
        cuda.load(PRESETS["opencv-cuda"])
    except BackendUnavailableError as error:
        if os.environ.get("FLOWKIT_REQUIRE_CUDA") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture
def real_gpu() -> None:
    require_gpu()


def test_a_required_gpu_that_is_missing_fails_and_does_not_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(cuda, "open_device", cuda_device.open_device.__wrapped__)
    monkeypatch.setenv("FLOWKIT_REQUIRE_CUDA", "0")
    with pytest.raises(pytest.skip.Exception):
        require_gpu()
    monkeypatch.setenv("FLOWKIT_REQUIRE_CUDA", "1")
    with pytest.raises(BackendUnavailableError):
        require_gpu()


# px: single precision in some 500 iterations, amplified where the data term is weak.
AGREEMENT_PX = 5e-3
MEAN_AGREEMENT_PX = 5e-5


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
@pytest.mark.parametrize("shape", [(45, 57), (120, 160), (131, 98)])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", get_args(Method))
def test_a_real_gpu_agrees_with_the_twin(
    method: Method, preset: str, shape: tuple[int, int], waves: Waves
) -> None:
    frames = np.stack([waves(shape), waves(shape, (1.3, -0.8))])
    flow, iterations = cuda.load(PRESETS[preset], method=method).flow_and_iterations(frames, [[0, 1]])
    twin = tvl1_flow(*frames, params=PRESETS[preset])
    assert [tuple(level) for level in iterations[0]] == [level.iterations for level in twin.trace.levels]
    difference = np.abs(flow[0] - twin.flow)
    assert difference.max() < AGREEMENT_PX
    assert difference.mean() < MEAN_AGREEMENT_PX


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", get_args(Method))
def test_a_real_gpu_gives_the_same_bits_whatever_the_batches(
    method: Method, preset: str, waves: Waves
) -> None:
    frames = np.stack([waves((120, 160), (0.4 * k, -0.3 * k)) for k in range(8)])
    pairs = np.array([[k, (k + 1) % 8] for k in range(8)])
    solver = cuda.load(PRESETS[preset], method=method)
    together = solver.flow_batch(frames, pairs)
    few = cuda.load(PRESETS[preset], method=method, memory_bytes=1 << 25).flow_batch(frames, pairs)
    np.testing.assert_array_equal(few, together)
    np.testing.assert_array_equal(solver.flow_batch(frames, pairs), together)


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
@pytest.mark.parametrize("code", ["q8", "i8", "i16", "u8"])
def test_a_real_gpus_codes_are_those_of_its_flow(code: str, waves: Waves) -> None:
    frames = np.stack([waves((120, 160), (0.4 * k, -0.3 * k)) for k in range(4)])
    pairs, quantizer = [[0, 1], [0, 2], [3, 1]], rules(bound_px=1.0)[code]
    solver = cuda.load(PRESETS["opencv-cuda"])
    made = solver.codes_batch(frames, pairs, quantizer=quantizer)
    check_equal(made, solver.flow_batch(frames, pairs), quantizer)


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
@pytest.mark.parametrize("size", [(1, 1), (31, 65), (256, 341)])
@pytest.mark.parametrize("code", ["q8", "i8"])
def test_a_real_gpus_scales_are_the_hosts_whatever_the_field(code: str, size: tuple[int, int]) -> None:
    flow = extreme_flows(np.random.default_rng(0), size)
    device, quantizer = cuda_device.open_device(0), rules(bound_px=1.0)[code]
    with device.using():
        made = [array.get() for array in enqueue_codes(device, device.upload(flow), quantizer)]
    codes, scales, largest, clipped = made
    made_here = FlowCodes(codes=codes, scales=scales, largest_px=checked_largest(largest), clipped=clipped)
    check_equal(made_here, flow, quantizer)


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_frames_on_a_real_gpu_give_a_flow_of_their_kind_there(waves: Waves) -> None:
    cupy: Any = importlib.import_module("cupy")
    frames, pairs = np.stack([waves((60, 80)), waves((60, 80), (1, 0))]), [[0, 1], [1, 0]]
    solver = cuda.load(PRESETS["opencv-cuda"])
    expected = solver.flow_batch(frames, pairs)
    flow: Any = solver.flow_batch(cupy.asarray(frames), pairs)
    assert isinstance(flow, cupy.ndarray)
    np.testing.assert_array_equal(flow.get(), expected)
    torch: Any = pytest.importorskip("torch")
    tensor: Any = solver.flow_batch(torch.from_numpy(frames).cuda(), pairs)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.is_cuda
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_real_gpus_codes_are_the_cpu_engines_but_for_roundings(preset: str, waves: Waves) -> None:
    frames = np.stack([waves((120, 160), (0.4 * k, -0.3 * k)) for k in range(4)]).astype(np.uint8)
    pairs = [[0, 1], [0, 2], [3, 1]]
    try:
        engine = cpu.load(PRESETS[preset])
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    expected, counts = engine.flow_and_iterations(frames, pairs)
    _, iterations = cuda.load(PRESETS[preset]).flow_and_iterations(frames, pairs)
    made = cuda.load(PRESETS[preset]).codes_batch(frames, pairs, quantizer=FIELD_SCALE)
    median = PRESETS[preset].weighted_median > 0
    # The CPU engine's median is another within 1/128 px, and so is what its tests find.
    assert median or (iterations == counts).all()
    codes = np.stack([field_codes(flow)[0] for flow in expected]).astype(int)
    difference = np.abs(codes - made.codes)
    assert (difference == 0).mean() >= EQUAL_CODES[median]
    assert difference.max() <= 1


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_extraction_by_real_gpus_stores_the_codes_of_their_flow(tmp_path: Path, waves: Waves) -> None:
    (tmp_path / "videos").mkdir()
    for k in range(3):
        writer = cv2.VideoWriter(
            str(tmp_path / "videos" / f"{k}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (80, 60)
        )
        for shift in range(9 + k):
            writer.write(cv2.cvtColor(waves((60, 80), (0.5 * shift, k)).astype(np.uint8), cv2.COLOR_GRAY2BGR))
        writer.release()
    config = ExtractConfig(backend="cuda", resize=ResizeRule(mode="native"), jobs=2)
    setup = prepare(find_sources([tmp_path / "videos"]), tmp_path / "x.h5", config=config)
    report = run(setup)
    assert not report.failures
    assert min(report.stages[stage] for stage in STAGES) > 0
    solver = cuda.load(PRESETS[DEFAULT_PRESET])
    with flowkit.open(tmp_path / "x.h5") as opened:
        for video_id, clip in opened.items():
            video = tmp_path / "videos" / f"{video_id}.avi"
            with flowkit.open_video(video, decoder=setup.decoder) as reader:
                greys = np.stack([to_grey(frame.rgb) for frame in reader])
            flows, rule = solver.flow_batch(greys, pair_indices(len(greys), 1)), setup.options.codec.quantizer
            expected = [rule.dequantize(*field_codes(flow, rule)) for flow in flows]
            np.testing.assert_array_equal(clip.flow(), np.stack(expected))
