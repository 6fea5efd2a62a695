from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendUnavailableError, FlowkitError, InvalidParameterError
from flowkit.tvl1 import cpu
from flowkit.tvl1.params import PRESETS, TVL1Params
from tests.make.twin import COMPILER, assert_agrees_with_twin, assert_nearly_agrees

Waves = Callable[..., NDArray[np.float32]]
GroundTruth = Callable[[str], tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]]


pytestmark = pytest.mark.usefixtures("cpu_engine")


def flow_of(
    I0: NDArray[np.generic], I1: NDArray[np.generic], params: TVL1Params, isa: str | None = None
) -> NDArray[np.float32]:
    flow: NDArray[np.float32] = cpu.load(params, isa=isa).flow_batch(np.stack([I0, I1]), [[0, 1]])[0]
    return flow


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (15, 15), (48, 64), (61, 83)])
def test_identical_frames_give_zero_flow(preset: str, shape: tuple[int, int], isa: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert not flow_of(image, image, PRESETS[preset], isa).any()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_agrees_with_the_twin(preset: str, waves: Waves, isa: str) -> None:
    a, b = waves((45, 57)), waves((45, 57), (1.3, -0.8))
    params = PRESETS[preset]
    assert_agrees_with_twin(a, b, dataclasses.replace(params, weighted_median=0), isa)
    if params.weighted_median:
        # A value of the median that is another moves the outcome of a block.
        assert_nearly_agrees(a, b, dataclasses.replace(params, block_epsilon=0.0), isa)


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 0.1, "lambda_": 0.6, "theta": 0.5},
        {"nscales": 1, "warps": 2},
        {"nscales": 3, "scale_step": 0.45},
        {"iterations": 13, "epsilon": 0.0},
        {"iterations": 1, "check_every": 1},
        {"check_every": 1},
        {"check_every": 7, "median": 5, "median_every": 4},
        {"check_every": 300, "iterations": 47, "median": 5, "median_every": 47},
        {"bicubic_a": 0.0},
        {"bicubic_a": -1.0, "border": "off"},
        {"presmooth_sigma": 1.3},
        {"normalize": True},
        {"pyramid": "gaussian", "scale_step": 0.7, "median": 5},
        {"pyramid": "pyrdown", "scale_step": 0.5, "border": "off"},
    ],
    ids=str,
)
def test_every_parameter_is_honoured_as_by_the_twin(change: dict[str, object], waves: Waves) -> None:
    params = dataclasses.replace(TVL1Params(), **change)  # type: ignore[arg-type]
    a, b = waves((37, 50)) * 0.7, waves((37, 50), (-0.7, 0.9)) * 0.7
    assert_agrees_with_twin(a, b, params)


@pytest.mark.parametrize("border", ["clamp", "off"])
@pytest.mark.parametrize("true", [(6.5, 0.0), (-5.25, 4.5), (0.0, -6.0)])
def test_motion_out_of_the_frame_agrees_with_the_twin(
    border: str, true: tuple[float, float], waves: Waves, isa: str
) -> None:
    # Where nothing matches, differences of rounding grow with every warp: three are enough.
    params = dataclasses.replace(
        TVL1Params(),
        border=border,  # type: ignore[arg-type]
        nscales=2,
        warps=3,
        epsilon=0.0,
        iterations=40,
    )
    assert_agrees_with_twin(waves((40, 53)), waves((40, 53), true), params, isa)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 3), (16, 16), (17, 33), (31, 32)])
@pytest.mark.parametrize("preset", PRESETS)
def test_small_frames_agree_with_the_twin(shape: tuple[int, int], preset: str, waves: Waves) -> None:
    # A fixed number of iterations: on frames this small a test's outcome hangs on a rounding.
    # Unfiltered: tests/tvl1/test_cpu_model.py has the weighted median of small frames.
    params = dataclasses.replace(PRESETS[preset], epsilon=0.0, iterations=20, weighted_median=0)
    # px: at the edge of the frame, which is all there is, the data term switches at a rounding.
    assert_agrees_with_twin(waves(shape), waves(shape, (0.6, 0.4)), params, tolerance_px=0.05)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_whole_pixel_shift_is_recovered(preset: str, waves: Waves) -> None:
    # u first and to the right, v second and downwards; away from the border, which brings in
    # what was outside.
    flow = flow_of(waves((60, 80)), waves((60, 80), (2, -1)), PRESETS[preset])[:, 8:-8, 8:-8]
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), (2, -1), rtol=0, atol=0.02)  # px


@pytest.mark.parametrize(
    ("first", "second"), [(0, 255), (255, 0), (7, 7)], ids=["brighter", "darker", "constant"]
)
@pytest.mark.parametrize("preset", PRESETS)
def test_constant_frames_give_zero_flow(first: int, second: int, preset: str) -> None:
    a, b = (np.full((33, 41), value, np.uint8) for value in (first, second))
    assert not flow_of(a, b, PRESETS[preset]).any()


@pytest.mark.parametrize("preset", PRESETS)
def test_saturated_noise_gives_finite_flow(preset: str, isa: str) -> None:
    a, b = np.random.default_rng(3).choice(np.array([0, 255], np.uint8), (2, 50, 67))
    assert np.isfinite(flow_of(a, b, PRESETS[preset], isa)).all()


def test_bytes_and_floats_of_the_same_values_give_the_same_bits(waves: Waves) -> None:
    frames = np.stack([waves((40, 50)), waves((40, 50), (1, 0))]).round().astype(np.uint8)
    solver = cpu.load(TVL1Params())
    as_bytes = solver.flow_batch(frames, [[0, 1]])
    np.testing.assert_array_equal(solver.flow_batch(frames.astype(np.float32), [[0, 1]]), as_bytes)
    np.testing.assert_array_equal(solver.flow_batch(frames.astype(np.float64), [[0, 1]]), as_bytes)


@pytest.mark.parametrize("preset", PRESETS)
def test_threads_and_order_do_not_change_a_bit(preset: str, waves: Waves) -> None:
    frames = np.stack([waves((40, 52), (0.4 * k, -0.3 * k)) for k in range(5)])
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [2, 2]])
    solver = cpu.load(PRESETS[preset])
    alone = np.concatenate([solver.flow_batch(frames[pair], [[0, 1]]) for pair in pairs])
    for threads in (1, 2, 3, 16):
        np.testing.assert_array_equal(solver.flow_batch(frames, pairs, threads=threads), alone)
    backwards = solver.flow_batch(frames, pairs[::-1], threads=2)
    np.testing.assert_array_equal(backwards[::-1], alone)


@pytest.mark.parametrize("preset", PRESETS)
def test_memory_kept_from_other_calls_does_not_change_a_bit(preset: str, waves: Waves) -> None:
    # A thread keeps its planes, with whatever the call before left in them and in their margins.
    small, large = (np.stack([waves(shape), waves(shape, (1.2, -0.7))]) for shape in ((33, 41), (70, 90)))
    solver = cpu.load(PRESETS[preset])

    def solve(*stacks: NDArray[np.float32]) -> NDArray[np.float32]:
        with ThreadPoolExecutor(max_workers=1) as fresh_thread:
            return list(fresh_thread.map(lambda frames: solver.flow_batch(frames, [[0, 1]]), stacks))[-1]

    np.testing.assert_array_equal(solve(large, 255 - large, small), solve(small))
    np.testing.assert_array_equal(solve(small, large), solve(large))


def test_no_pairs_give_an_empty_flow() -> None:
    flow = cpu.load(TVL1Params()).flow_batch(np.zeros((2, 20, 30), np.uint8), [])
    assert flow.shape == (0, 2, 20, 30)


def test_the_callers_small_numbers_survive_a_call() -> None:
    # The engine counts numbers below 1e-38 as zero while it runs, and only then.
    cpu.load(TVL1Params()).flow_batch(np.zeros((2, 20, 30), np.uint8), [[0, 1]])
    assert np.float32(1e-40) * np.float32(0.5) > 0


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(threads: int) -> None:
    with pytest.raises(InvalidParameterError, match=f"threads must be >= 1, got {threads}"):
        cpu.load(TVL1Params()).flow_batch(np.zeros((2, 4, 4), np.uint8), [[0, 1]], threads=threads)


def test_a_frame_with_nan_is_refused() -> None:
    frames = np.zeros((2, 20, 30), np.float32)
    frames[1, 3, 4] = np.nan
    with pytest.raises(InvalidParameterError, match="finite"):
        cpu.load(TVL1Params()).flow_batch(frames, [[0, 1]])


def test_an_unknown_instruction_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InvalidParameterError, match=r"Invalid isa \('sse9'\)\. .* on this machine are .*baseline"
    ):
        cpu.load(TVL1Params(), isa="sse9")


def test_the_best_instruction_set_is_taken_unless_one_is_named() -> None:
    known = cpu.instruction_sets()
    assert cpu.load(TVL1Params()).isa == known[0]
    assert known[-1] == "baseline"
    assert cpu.load(TVL1Params(), isa="baseline").device == "cpu/baseline"


@pytest.fixture
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that the loader searches instead of its own."""
    monkeypatch.setattr(cpu, "__file__", str(tmp_path / "cpu.py"))
    monkeypatch.setattr(cpu, "_library", cpu._library.__wrapped__)
    return tmp_path


def test_an_engine_that_is_not_built_names_the_remedy(empty_folder: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"not built.*compiler.*pip install"):
        cpu.load(TVL1Params())


def test_an_engine_that_does_not_load_names_the_cause(empty_folder: Path) -> None:
    (empty_folder / "_native.so").write_bytes(b"not a library")
    with pytest.raises(BackendUnavailableError, match=r"does not load: .*_native\.so"):
        cpu.load(TVL1Params())


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")
def test_an_engine_of_other_sources_is_refused(empty_folder: Path) -> None:
    source = empty_folder / "old.cpp"
    source.write_text('extern "C" int flowkit_tvl1_abi_version() { return 0; }\n')
    command = [str(COMPILER), "-shared", "-fPIC", str(source), "-o", str(empty_folder / "_native.so")]
    subprocess.run(command, check=True)
    with pytest.raises(BackendUnavailableError, match=r"other sources: interface 0, expected \d"):
        cpu.load(TVL1Params())


def test_frames_beyond_the_engines_integers_are_refused_and_not_read() -> None:
    # One value, seen as 46,341 x 46,341 px: 2**31 px and a little, without the memory.
    frames = np.broadcast_to(np.uint8(0), (1, 46_341, 46_341))
    native = cpu._native_params(TVL1Params())
    assert cpu._library().flowkit_tvl1_levels(ctypes.byref(native), *frames.shape[1:]) == 0


@pytest.mark.data
@pytest.mark.parametrize(("name", "opencv_aee"), [("RubberWhale", 0.156), ("Venus", 0.306)])
def test_ground_truth_error_equals_opencvs(name: str, opencv_aee: float, ground_truth: GroundTruth) -> None:
    first, second, true = ground_truth(name)
    flow = flow_of(first, second, PRESETS["opencv-cpu"])
    error = np.nanmean(np.hypot(*(flow - true)))
    assert error == pytest.approx(opencv_aee, rel=0.01)


def test_errors_of_the_engine_are_flowkits(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = dataclasses.replace(cpu.load(TVL1Params()), isa="sse9")
    with pytest.raises(FlowkitError, match="CPU engine failed on 2 frames of 6x5 px: arguments"):
        solver.flow_batch(np.zeros((2, 5, 6), np.uint8), [[0, 1]])
