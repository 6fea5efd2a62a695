"""The shipped kernels, compiled for the host and driven by the shipped driver, against the twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendUnavailableError
from flowkit.tvl1 import cpu
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.device import or_null
from flowkit.tvl1.cuda.plan import Model, TileShape
from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow
from flowkit.tvl1.reference.steps import centered_gradient, five_tap_gradient, linearise, median_5x5
from tests.make.codes import field_codes
from tests.make.cuda import ACCURATE_MODEL, EQUAL_CODES, FAST_MODEL, SMALL_TILE
from tests.tvl1.emulation.emulator import COMPILER, IN_TURN, LAST_FIRST, RANDOM, Module
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

Waves = Callable[..., NDArray[np.float32]]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


# px: single precision in some 500 iterations, amplified where the data term is weak.
AGREEMENT_PX = 5e-3
MEAN_AGREEMENT_PX = 5e-5


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return install(monkeypatch, FakeGpu(schedule=(RANDOM, 1)))


def assert_agrees_with_twin(
    I0: NDArray[np.generic], I1: NDArray[np.generic], params: TVL1Params, tile: TileShape = SMALL_TILE
) -> None:
    twin = tvl1_flow(I0, I1, params=params)
    flow, iterations = cuda.load(params, tile=tile).flow_and_iterations(np.stack([I0, I1]), [[0, 1]])
    assert [tuple(level) for level in iterations[0]] == [level.iterations for level in twin.trace.levels]
    difference = np.abs(flow[0] - twin.flow)
    assert difference.max() < AGREEMENT_PX
    assert difference.mean() < MEAN_AGREEMENT_PX


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("preset", PRESETS)
def test_emulated_presets_agree_with_the_twin(preset: str, waves: Waves) -> None:
    assert_agrees_with_twin(waves((37, 45)), waves((37, 45), (1.3, -0.8)), PRESETS[preset])


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "change",
    [
        {"tau": 0.1, "lambda_": 0.6, "theta": 0.5},
        {"iterations": 13, "epsilon": 0.0},
        {"iterations": 1, "check_every": 1},
        {"check_every": 1, "iterations": 30},
        {"check_every": 7, "median": 5, "median_every": 4},
        {"check_every": 300, "iterations": 47, "median": 5, "median_every": 47},
        {"bicubic_a": -1.0, "border": "off"},
        {"presmooth_sigma": 1.3},
        {"normalize": True},
        {"pyramid": "gaussian", "scale_step": 0.7, "median": 5},
        {"pyramid": "pyrdown", "scale_step": 0.5, "border": "off"},
    ],
    ids=str,
)
def test_emulated_parameters_are_honoured_as_by_the_twin(change: dict[str, object], waves: Waves) -> None:
    params = dataclasses.replace(TVL1Params(warps=2, nscales=2), **change)  # type: ignore[arg-type]
    assert_agrees_with_twin(waves((34, 40)) * 0.7, waves((34, 40), (-0.7, 0.9)) * 0.7, params)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("border", ["clamp", "off"])
@pytest.mark.parametrize("true", [(6.5, 0.0), (-5.25, 4.5), (0.0, -6.0)])
def test_emulated_motion_out_of_the_frame_agrees_with_the_twin(
    border: str, true: tuple[float, float], waves: Waves
) -> None:
    # Where nothing matches, differences of rounding grow with every warp: three are enough.
    params = TVL1Params(border=border, nscales=2, warps=3, epsilon=0.0, iterations=40)  # type: ignore[arg-type]
    assert_agrees_with_twin(waves((40, 53)), waves((40, 53), true), params)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 3), (16, 16), (17, 33), (31, 32)])
@pytest.mark.parametrize("preset", ["opencv-cuda", "opencv-cpu", "ipol"])
def test_emulated_small_frames_agree_with_the_twin(shape: tuple[int, int], preset: str, waves: Waves) -> None:
    # A fixed number of iterations: on frames this small a test's outcome hangs on a rounding.
    params = dataclasses.replace(PRESETS[preset], epsilon=0.0, iterations=20, warps=2)
    assert_agrees_with_twin(waves(shape), waves(shape, (0.6, 0.4)), params)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "tile",
    [
        TileShape(columns=2, rows=4, warps=2, halo=3),
        TileShape(columns=1, rows=1, warps=9, halo=4),
        TileShape(columns=1, rows=3, warps=5, halo=1),
        TileShape(),
    ],
    ids=str,
)
def test_emulated_tile_shapes_agree_with_the_twin(tile: TileShape, waves: Waves) -> None:
    params = TVL1Params(nscales=1, warps=1, epsilon=0.0, iterations=23)
    assert_agrees_with_twin(waves((67, 71)), waves((67, 71), (0.8, 0.3)), params, tile)


@pytest.mark.parametrize("schedule", [(IN_TURN, 0), (LAST_FIRST, 0), (RANDOM, 7), (RANDOM, 12345)])
def test_emulated_bits_do_not_depend_on_the_schedule(
    schedule: tuple[int, int], waves: Waves, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, params = np.stack([waves((34, 40)), waves((34, 40), (1, -1))]), TVL1Params(nscales=1, warps=2)
    flows = []
    for chosen in ((RANDOM, 99), schedule):
        with monkeypatch.context() as patch:
            install(patch, FakeGpu(schedule=chosen))
            flows.append(cuda.load(params, tile=SMALL_TILE).flow_batch(frames, [[0, 1]]))
    np.testing.assert_array_equal(flows[1], flows[0])


# px: the CPU engine's weighted median is within 1/128 px of a value of the window, and it may filter a
# pixel whose spread is at the threshold where ours does not.
CPU_AGREEMENT_PX = {1.0: 0.1, 0.999: 0.03}
CPU_MEAN_AGREEMENT_PX = 2e-3


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("params", [FAST_MODEL, ACCURATE_MODEL], ids=["fast", "accurate"])
def test_emulated_whole_model_is_the_cpu_engines_but_for_its_median(params: TVL1Params, waves: Waves) -> None:
    try:
        other = cpu.load(params)
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    frames = np.stack([waves((61, 83), shift) for shift in ((0, 0), (2.3, -1.4), (1.3, -0.8))])
    frames[1, 30:] = frames[2, 30:]
    flow = cuda.load(params, tile=SMALL_TILE).flow_batch(frames, [[0, 1]])[0]
    expected = other.flow_batch(frames, [[0, 1]])[0]
    difference = np.abs(flow - expected)
    for share, limit in CPU_AGREEMENT_PX.items():
        assert np.quantile(difference, share) < limit
    assert difference.mean() < CPU_MEAN_AGREEMENT_PX
    (codes, scale), (other_codes, other_scale) = field_codes(flow), field_codes(expected)
    assert scale == other_scale
    steps = np.abs(codes.astype(int) - other_codes)
    assert (steps == 0).mean() >= EQUAL_CODES[True]
    assert steps.max() <= 1


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("preset", PRESETS)
def test_emulated_codes_are_the_cpu_engines_but_for_roundings(preset: str, waves: Waves) -> None:
    try:
        other = cpu.load(PRESETS[preset])
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    frames = np.stack([waves((37, 45)), waves((37, 45), (2.3, -1.4))])
    flow = cuda.load(PRESETS[preset], tile=SMALL_TILE).flow_batch(frames, [[0, 1]])[0]
    codes, scale = field_codes(flow)
    expected, expected_scale = field_codes(other.flow_batch(frames, [[0, 1]])[0])
    assert scale == expected_scale
    steps = np.abs(codes.astype(int) - expected)
    assert (steps == 0).mean() >= EQUAL_CODES[PRESETS[preset].weighted_median > 0]
    assert steps.max() <= 1


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("preset", PRESETS)
def test_emulated_identical_frames_give_zero_flow(preset: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (17, 41), dtype=np.uint8)
    flow = cuda.load(PRESETS[preset], tile=SMALL_TILE).flow_batch(np.stack([image, image]), [[0, 1]])
    assert not flow.any()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("first", "second"), [(0, 255), (255, 0), (7, 7)], ids=["brighter", "darker", "constant"]
)
@pytest.mark.parametrize("preset", ["opencv-cuda", "opencv-cpu", "ipol"])
def test_emulated_constant_frames_give_zero_flow(first: int, second: int, preset: str) -> None:
    frames = np.stack([np.full((17, 41), value, np.uint8) for value in (first, second)])
    assert not cuda.load(PRESETS[preset], tile=SMALL_TILE).flow_batch(frames, [[0, 1]]).any()


@pytest.mark.usefixtures("gpu")
def test_emulated_saturated_noise_gives_finite_flow() -> None:
    frames = np.random.default_rng(3).choice(np.array([0, 255], np.uint8), (2, 34, 37))
    flow = cuda.load(TVL1Params(warps=3), tile=SMALL_TILE).flow_batch(frames, [[0, 1]])
    assert np.isfinite(flow).all()


LEVEL = "level.cu"


def states(pairs: int) -> NDArray[np.int32]:
    state = np.zeros((pairs, 5), np.int32)
    state[:, 0] = 1
    return state


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 40), (19, 23)])
def test_emulated_median_is_the_twins_bit_for_bit(shape: tuple[int, int]) -> None:
    rng, (height, width) = np.random.default_rng(0), shape
    u = np.full((2, 2, height * width, 2), np.nan, np.float32)
    u[0] = rng.integers(-9, 9, u[0].shape) + rng.normal(size=u[0].shape) * 1e-3
    state = states(2)
    state[1, 0] = 0
    ints = [np.int32(v) for v in (2, width, height)]
    Module(LEVEL).launch("flowkit_median", (-(-height * width // 256), 2), (256,), (u, state, *ints))
    expected = median_5x5(u[0, 0].T.reshape(2, height, width).astype(np.float64))
    np.testing.assert_array_equal(u[1, 0].T.reshape(2, height, width), expected)
    assert np.isnan(u[1, 1]).all(), "a pair that has stopped must stay as it is"
    np.testing.assert_array_equal(state, [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])


GRADIENTS = {3: centered_gradient, 5: five_tap_gradient}


@pytest.mark.parametrize("border", ["clamp", "off"])
@pytest.mark.parametrize(("bicubic_a", "taps"), [(-0.5, 3), (-0.75, 3), (-0.75, 5)])
@pytest.mark.parametrize("scale", [0.0, 0.9, 30.0])
@pytest.mark.parametrize("size", [(21, 26), (8, 9), (7, 12), (9, 2)])
def test_emulated_linearisation_agrees_with_the_twin(
    size: tuple[int, int], border: str, bicubic_a: float, taps: int, scale: float
) -> None:
    rng, (height, width) = np.random.default_rng(2), size
    params = TVL1Params(border=border, bicubic_a=bicubic_a, gradient_taps=taps)  # type: ignore[arg-type]
    I0, I1 = rng.uniform(0, 255, (2, height, width)).astype(np.float32)
    flow = (scale * rng.normal(size=(2, height, width))).astype(np.float32)
    terms = linearise_on_host(np.stack([I0, I1]), flow, params)
    twin = linearise(
        I0.astype(np.float64),
        np.concatenate([I1[None], GRADIENTS[taps](I1.astype(np.float64))]),
        flow.astype(np.float64),
        params,
    )
    norm = np.sqrt(twin.grad)
    for got, expected in zip(
        (terms[0] * norm, terms[1] * norm, terms[2] * norm, terms[3] / (params.lambda_ * params.theta)),
        (*twin.gradient, twin.rho_c, norm),
        strict=True,
    ):
        # Grey levels: a position is known to 4e-6 px, the image changes by 255 a px, and the
        # error of the gradient counts `scale` times in rho_c.
        np.testing.assert_allclose(got, expected, rtol=0, atol=5e-3 * (1 + scale))


def linearise_on_host(
    frames: NDArray[np.float32], flow: NDArray[np.float32], params: TVL1Params
) -> NDArray[np.float32]:
    _, height, width = frames.shape
    n = height * width
    u = np.full((2, 1, n, 2), np.nan, np.float32)
    u[0, 0] = flow.reshape(2, n).T
    terms, counts = np.full((1, n, 4), np.nan, np.float32), np.array([0, 1], np.int32)
    arrays = (frames, np.array([[0, 1]], np.int32), u, terms, states(1), counts)
    ints = [np.int32(v) for v in (1, width, height)]
    floats = [np.float32(v) for v in (params.bicubic_a, params.lambda_ * params.theta)]
    first_warp = or_null(None), np.float32(0)  # no block is still yet
    args = (*arrays, *ints, *floats, np.int32(params.border == "clamp"), *first_warp)
    Module(LEVEL, Model.of(params).warp_defines).launch("flowkit_linearise", (-(-n // 256), 1), (256,), args)
    assert counts.tolist() == [1, 1]
    planes: NDArray[np.float32] = terms[0].T.reshape(4, height, width)
    return planes


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 3e9, -3e38])
@pytest.mark.parametrize("border", ["clamp", "off"])
def test_emulated_wild_flows_sample_the_edge_or_nothing(wild: float, border: str) -> None:
    params = TVL1Params(border=border)  # type: ignore[arg-type]
    frames = np.random.default_rng(0).uniform(0, 255, (2, 9, 11)).astype(np.float32)
    terms = linearise_on_host(frames, np.full((2, 9, 11), wild, np.float32), params)
    if border == "off":
        assert not terms.any()
    else:
        # A corner's gradient, the same at each pixel: a wild position was never made an index.
        gradient = terms[:2].reshape(2, -1)
        np.testing.assert_array_equal(gradient, np.repeat(gradient[:, :1], 99, axis=1))
        assert np.isfinite(gradient).all()
