"""The parameters beyond the published model through the whole driver, emulated, against the twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.batch import Method
from flowkit.tvl1.params import FilterAfter, TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow
from tests.make.cuda import ACCURATE_MODEL, FAST_MODEL, SMALL_TILE
from tests.tvl1.emulation.emulator import COMPILER, RANDOM
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

Waves = Callable[..., NDArray[np.float32]]

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here"),
    pytest.mark.parametrize("method", get_args(Method)),
]

# px: single precision in some 100 iterations, amplified where the data term is weak.
AGREEMENT_PX = 5e-3
MEAN_AGREEMENT_PX = 5e-5

QUICK = TVL1Params(nscales=2, warps=2, iterations=20)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that has clusters; its blocks are interleaved at random."""
    return install(monkeypatch, FakeGpu(schedule=(RANDOM, 11), capability=90))


def assert_agrees_with_twin(
    frames: NDArray[np.float32], pairs: list[tuple[int, int]], params: TVL1Params, method: Method
) -> NDArray[np.int32]:
    """Hold the flow and the iterations of each pair to the twin; return the iterations."""
    solver = cuda.load(params, tile=SMALL_TILE, method=method)
    flow, iterations = solver.flow_and_iterations(frames, pairs)
    for k, (first, second) in enumerate(pairs):
        twin = tvl1_flow(frames[first], frames[second], params=params)
        assert [tuple(level) for level in iterations[k]] == [level.iterations for level in twin.trace.levels]
        difference = np.abs(flow[k] - twin.flow)
        assert difference.max() < AGREEMENT_PX
        assert difference.mean() < MEAN_AGREEMENT_PX
    return iterations


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("change", [{}, {"check_first": 5, "check_every": 7}, {"median": 5}], ids=str)
def test_emulated_levels_end_early_for_still_pairs_alone(
    change: dict[str, object], method: Method, waves: Waves
) -> None:
    params = TVL1Params(nscales=2, warps=3, iterations=30, epsilon=0.03)
    params = dataclasses.replace(params, **change)  # type: ignore[arg-type]
    shifts = [(0, 0), (0, 0), (1.3, -0.8), (0.02, 0.01), (0.3, -0.1)]
    frames = np.stack([waves((26, 37), shift) for shift in shifts])
    iterations = assert_agrees_with_twin(frames, [(2, 4), (0, 1), (0, 3), (3, 2), (0, 4)], params, method)
    assert (iterations[1] == [params.check_first, 0, 0]).all()
    left_out = (iterations == 0).sum(axis=2)
    assert {0, 2} <= {*left_out.flat}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "change",
    [
        {"check_first": 20},
        {"check_first": 5, "check_every": 5},
        {"check_first": 7, "check_every": 5},
        {"epsilon": 0.0},
    ],
    ids=str,
)
def test_emulated_first_test_that_is_none_ends_no_level(
    change: dict[str, object], method: Method, waves: Waves
) -> None:
    params = dataclasses.replace(QUICK, **{"epsilon": 0.2, **change})  # type: ignore[arg-type]
    frames = np.stack([waves((20, 34)), waves((20, 34), (0.2, 0))])
    iterations = assert_agrees_with_twin(frames, [(0, 1), (0, 0)], params, method)
    assert iterations.all()


PROJECTED = dataclasses.replace(QUICK, dual="projected", lambda_=0.2)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "change",
    [
        {"edge_alpha": 3.0, "dual_start": "coarser"},
        {"check_first": 7, "check_every": 7},
        {"warps": 3, "weighted_median": 5},
        {"median": 5},
    ],
    ids=str,
)
def test_emulated_still_blocks_keep_their_flow(
    change: dict[str, object], method: Method, waves: Waves
) -> None:
    params = dataclasses.replace(PROJECTED, epsilon=1e-4, block_epsilon=0.03, **change)  # type: ignore[arg-type]
    frames = np.stack([waves((37, 53)), waves((37, 53), (1.3, -0.8))])
    frames[1, :, :20] = frames[0, :, :20]
    assert_agrees_with_twin(frames, [(0, 1), (1, 0)], params, method)
    all_iterate = dataclasses.replace(params, block_epsilon=0.0)
    twins = [tvl1_flow(*frames, params=each).flow for each in (params, all_iterate)]
    assert np.abs(twins[0] - twins[1]).max() > AGREEMENT_PX


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"edge_alpha": 3.0},
        {"edge_alpha": 20.0, "edge_beta": 0.5, "border": "off", "theta": 0.2, "tau": 0.2},
        {"edge_alpha": 3.0, "median": 5, "normalize": True},
    ],
    ids=str,
)
def test_emulated_projected_step_agrees_with_the_twin(
    change: dict[str, object], method: Method, waves: Waves
) -> None:
    params = dataclasses.replace(PROJECTED, **change)  # type: ignore[arg-type]
    # Flow that breaks at a column, so that the dual variable comes to its bound.
    frames = np.stack([waves((27, 43), shift) for shift in ((0, 0), (1.3, -0.8), (-0.9, 0.4))]) * 0.9
    frames[1, :, 20:] = frames[2, :, 20:]
    assert_agrees_with_twin(frames, [(0, 1), (2, 0), (1, 1)], params, method)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (16, 16), (31, 32)])
def test_emulated_edge_weights_of_small_frames_agree_with_the_twin(
    shape: tuple[int, int], method: Method, waves: Waves
) -> None:
    params = dataclasses.replace(PROJECTED, edge_alpha=3.0, epsilon=0.0)
    assert_agrees_with_twin(np.stack([waves(shape), waves(shape, (0.6, 0.4))]), [(0, 1)], params, method)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("shape", [(27, 43), (5, 3)])
def test_emulated_snap_to_whole_pixels_agrees_with_the_twin(
    shape: tuple[int, int], taps: int, method: Method, waves: Waves
) -> None:
    changes = {"gradient_taps": taps, "warp_snap": 0.3, "epsilon": 0.0}
    params = dataclasses.replace(QUICK, **changes)  # type: ignore[arg-type]
    frames = np.stack([waves(shape), waves(shape, (-2.1, 0.9)), waves(shape, (0.4, 0.2))])
    assert_agrees_with_twin(frames, [(0, 1), (2, 0)], params, method)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("border", ["clamp", "off"])
@pytest.mark.parametrize("shape", [(27, 43), (7, 40), (16, 8), (5, 3)])
def test_emulated_five_tap_gradients_agree_with_the_twin(
    shape: tuple[int, int], border: str, method: Method, waves: Waves
) -> None:
    changes = {"gradient_taps": 5, "border": border, "epsilon": 0.0}
    params = dataclasses.replace(QUICK, **changes)  # type: ignore[arg-type]
    frames = np.stack([waves(shape), waves(shape, (-2.3, 1.8)), waves(shape, (0.4, 0.2))])
    assert_agrees_with_twin(frames, [(0, 1), (2, 0)], params, method)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nscales": 3, "scale_step": 0.7, "dual": "semi-implicit", "edge_alpha": 0.0, "median": 5},
        {"pyramid": "gaussian", "scale_step": 0.6, "normalize": True, "epsilon": 0.05, "check_every": 5},
        {"pyramid": "pyrdown", "scale_step": 0.5, "border": "off", "theta": 0.2},
    ],
    ids=str,
)
def test_emulated_dual_variable_that_starts_from_the_coarser_level_agrees_with_the_twin(
    change: dict[str, object], method: Method, gpu: FakeGpu, waves: Waves
) -> None:
    # Few iterations, so that most of the dual variable is the coarser level's.
    params = dataclasses.replace(PROJECTED, dual_start="coarser", edge_alpha=3.0, iterations=10)
    params = dataclasses.replace(params, **change)  # type: ignore[arg-type]
    frames = np.stack([waves((42, 61), shift) for shift in ((0, 0), (1.3, -0.8), (-0.9, 0.4))]) * 0.9
    frames[1, :, 20:] = frames[2, :, 20:]
    assert_agrees_with_twin(frames, [(0, 1), (2, 0), (1, 1)], params, method)
    assert ("flowkit_cluster" in gpu.launched) == (method == "cluster" and not params.median)


@pytest.mark.parametrize("after", ["warp", "level"])
def test_emulated_levels_of_tiles_and_of_clusters_hand_the_dual_variable_on(
    after: FilterAfter, method: Method, gpu: FakeGpu, waves: Waves
) -> None:
    params = dataclasses.replace(FAST_MODEL, nscales=2, iterations=4, weighted_median_after=after)
    # The lower level is too wide for a cluster.
    frames = np.stack([waves((24, 800)), waves((24, 800), (1.3, -0.8))])
    assert_agrees_with_twin(frames, [(0, 1)], params, method)
    both = {"flowkit_cluster", "flowkit_tile"} <= set(gpu.launched)
    assert both == (method == "cluster")


MEDIAN = dataclasses.replace(QUICK, weighted_median=5, weighted_median_after="level")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"weighted_median": 7, "weighted_median_after": "warp", "border": "off"},
        {"weighted_median_after": "warp", "weighted_median_spread": 0.2, "normalize": True},
        {"weighted_median": 7, "weighted_median_spread": 0.2, "weighted_median_grey": 20.0},
        {"weighted_median_after": "warp", "median": 5, "weighted_median_px": 1.5},
    ],
    ids=str,
)
def test_emulated_weighted_median_agrees_with_the_twin(
    change: dict[str, object], method: Method, waves: Waves
) -> None:
    params = dataclasses.replace(MEDIAN, **change)  # type: ignore[arg-type]
    frames = np.stack([waves((27, 43), shift) for shift in ((0, 0), (1.3, -0.8), (-0.9, 0.4))])
    frames[1, :, 20:] = frames[2, :, 20:]
    assert_agrees_with_twin(frames, [(0, 1), (2, 0), (1, 1)], params, method)


@pytest.mark.parametrize(
    "params",
    [
        FAST_MODEL,
        # A value of the median that is another moves the outcome of a block: each by itself.
        dataclasses.replace(ACCURATE_MODEL, block_epsilon=0.0),
        dataclasses.replace(ACCURATE_MODEL, weighted_median=0),
        dataclasses.replace(
            ACCURATE_MODEL, dual_start="zero", warps=3, epsilon=0.03, weighted_median_spread=0.0
        ),
    ],
    ids=["fast", "accurate, all iterate", "accurate, unfiltered", "dual from zero"],
)
def test_emulated_whole_model_agrees_with_the_twin(
    params: TVL1Params, method: Method, gpu: FakeGpu, waves: Waves
) -> None:
    frames = np.stack([waves((37, 45), shift) for shift in ((0, 0), (1.3, -0.8), (-2.4, 1.1))])
    frames[1, 14:] = frames[2, 14:]
    assert_agrees_with_twin(frames, [(0, 1), (1, 1), (2, 0)], params, method)
    assert ("flowkit_cluster" in gpu.launched) == (method == "cluster")
    assert ("flowkit_tile" in gpu.launched) == (method == "tile")
