"""The twin with what the published model has not: the first test, both duals, the weighted median."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.tvl1.params import PRESETS, TVL1Params
from flowkit.tvl1.reference.solver import State, finer_state, solve_level, tvl1_flow

Waves = Callable[..., NDArray[np.float32]]

BASE = dataclasses.replace(PRESETS["opencv-cuda"], check_first=0, iterations=40, warps=3)


def counts_of(I0: NDArray[np.generic], I1: NDArray[np.generic], params: TVL1Params) -> list[tuple[int, ...]]:
    return [level.iterations for level in tvl1_flow(I0, I1, params=params).trace.levels]


def test_without_a_first_test_every_warp_is_done_and_tested_each_check_every_iterations(
    waves: Waves,
) -> None:
    a = waves((40, 50))
    assert counts_of(a, a, BASE) == [(10, 10, 10)] * 5
    moved = counts_of(a, waves((40, 50), (1.5, -0.7)), BASE)
    assert all(count in (10, 20, 30, 40) for level in moved for count in level)


@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_still_pair_takes_the_first_tests_iterations_and_one_warp_a_level(first: int, waves: Waves) -> None:
    a = waves((40, 50))
    result = tvl1_flow(a, a, params=dataclasses.replace(BASE, check_first=first))
    assert [level.iterations for level in result.trace.levels] == [(first, 0, 0)] * 5
    assert not result.flow.any()
    assert result.trace.iterations == 5 * first


@pytest.mark.parametrize("preset", PRESETS)
def test_a_still_pair_takes_two_iterations_a_level_with_every_preset(preset: str, waves: Waves) -> None:
    params = dataclasses.replace(PRESETS[preset], check_first=2)
    a = waves((40, 50))
    assert counts_of(a, a, params) == [(2, *[0] * (params.warps - 1))] * len(counts_of(a, a, params))


def test_a_pair_that_moves_is_not_cut(waves: Waves) -> None:
    a, b = waves((40, 50)), waves((40, 50), (1.5, -0.7))
    without = tvl1_flow(a, b, params=BASE)
    cut = tvl1_flow(a, b, params=dataclasses.replace(BASE, check_first=2))
    assert all(level.iterations[0] > 2 for level in cut.trace.levels)
    # px: warps left out moved nothing to speak of: by epsilon = .01 px in one iteration.
    assert np.abs(cut.flow - without.flow).mean() < 0.01


@pytest.mark.parametrize("first", [10, 11, 40, 300])
def test_a_first_test_that_is_none_leaves_no_warp_out(first: int, waves: Waves) -> None:
    # At or beyond check_every there is a test before it, or the same one.
    a = waves((40, 50))
    assert counts_of(a, a, dataclasses.replace(BASE, check_first=first)) == [(10, 10, 10)] * 5


def test_a_first_test_at_the_last_iteration_leaves_no_warp_out(waves: Waves) -> None:
    a = waves((40, 50))
    params = dataclasses.replace(BASE, check_first=4, iterations=4)
    assert counts_of(a, a, params) == [(4, 4, 4)] * 5


def test_without_a_rule_the_first_test_ends_nothing(waves: Waves) -> None:
    a = waves((20, 20))
    params = dataclasses.replace(BASE, check_first=2, epsilon=0.0)
    assert counts_of(a, a, params) == [(40, 40, 40)] * 2


def test_the_weighted_median_comes_after_the_last_warp_of_a_level_that_ends_early() -> None:
    # An outlier of the start that the data term cannot move: there is none on a constant image.
    I0, params = np.full((20, 20), 80.0), dataclasses.replace(BASE, check_first=2, epsilon=0.5)
    start = State.zero((20, 20))
    start.u[0, 10, 10] = 4.0
    for after in ("warp", "level"):
        filtering = dataclasses.replace(params, weighted_median=5, weighted_median_after=after)
        state, trace = solve_level(I0, I0, start, filtering)
        assert trace.iterations == (2, 0, 0)
        unfiltered = solve_level(I0, I0, start, params)[0]
        assert np.abs(state.u).max() < np.abs(unfiltered.u).max()


def test_filtering_after_a_level_filters_once(waves: Waves) -> None:
    a, b = waves((30, 40)), waves((30, 40), (2.3, -1.2))
    once, each = (
        dataclasses.replace(BASE, weighted_median=5, weighted_median_after=after)
        for after in ("level", "warp")
    )
    assert not np.array_equal(tvl1_flow(a, b, params=once).flow, tvl1_flow(a, b, params=each).flow)
    once, each = (dataclasses.replace(params, warps=1) for params in (once, each))
    assert np.array_equal(tvl1_flow(a, b, params=once).flow, tvl1_flow(a, b, params=each).flow)


def test_both_dual_steps_converge_to_one_flow(waves: Waves) -> None:
    a, b = waves((24, 30)), waves((24, 30), (0.8, -0.4))
    semi, projected = (
        tvl1_flow(
            a,
            b,
            params=dataclasses.replace(BASE, dual=dual, nscales=1, warps=4, iterations=3000, epsilon=0.0),
        ).flow
        for dual in ("semi-implicit", "projected")
    )
    # px: what the slower of them is still away after 3000 iterations.
    np.testing.assert_allclose(projected, semi, rtol=0, atol=5e-3)


def test_without_weights_edges_do_not_matter(waves: Waves) -> None:
    a, b = waves((24, 30)), waves((24, 30), (0.8, -0.4))
    plain = dataclasses.replace(BASE, dual="projected", edge_beta=0.8)
    other = dataclasses.replace(plain, edge_beta=0.5)
    assert np.array_equal(tvl1_flow(a, b, params=plain).flow, tvl1_flow(a, b, params=other).flow)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("warp_snap", 0.2),
        ("edge_alpha", 9.0),
        ("edge_beta", 0.5),
        ("weighted_median_spread", 0.2),
        ("weighted_median_grey", 2.0),
        ("weighted_median_px", 1.0),
        ("weighted_median_after", "level"),
    ],
)
def test_every_parameter_of_the_extended_model_changes_the_flow(
    field: str, value: object, waves: Waves
) -> None:
    a, b = waves((30, 40)), waves((30, 40), (2.3, -1.2))
    before = dataclasses.replace(BASE, dual="projected", edge_alpha=5.0, weighted_median=5)
    changed = dataclasses.replace(before, **{field: value})  # type: ignore[arg-type]
    assert not np.array_equal(tvl1_flow(a, b, params=before).flow, tvl1_flow(a, b, params=changed).flow)


EXTENDED: dict[str, Any] = {
    "gradient_taps": 5,
    "dual": "projected",
    "dual_start": "coarser",
    "edge_alpha": 5.0,
    "weighted_median": 7,
}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (17, 16)])
def test_unrelated_small_frames_give_finite_flow(shape: tuple[int, int]) -> None:
    a, b = np.random.default_rng(1).integers(0, 256, (2, *shape), dtype=np.uint8)
    assert np.isfinite(tvl1_flow(a, b, params=dataclasses.replace(BASE, **EXTENDED)).flow).all()


def test_the_extended_model_recovers_a_known_shift(waves: Waves) -> None:
    a, b = waves((48, 56)), waves((48, 56), (1.5, -1.0))
    flow = tvl1_flow(a, b, params=dataclasses.replace(BASE, **EXTENDED)).flow
    # px, as for the presets with a = -.5.
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), (1.5, -1.0), rtol=0, atol=0.01)


def test_identical_frames_give_zero_flow_with_the_extended_model(waves: Waves) -> None:
    a = waves((40, 50))
    assert not tvl1_flow(a, a, params=dataclasses.replace(BASE, **EXTENDED)).flow.any()


@pytest.mark.parametrize("start", ["zero", "coarser"])
def test_the_flow_of_a_finer_level_does_not_depend_on_the_dual_start(start: Any) -> None:
    rng = np.random.default_rng(2)
    state = State(u=rng.normal(0, 1, (2, 10, 12)), p=rng.uniform(-0.5, 0.5, (2, 2, 10, 12)))
    finer = finer_state(state, (13, 15), dataclasses.replace(BASE, dual_start=start))
    assert np.array_equal(finer.u, finer_state(state, (13, 15), BASE).u)
    assert finer.p.any() == (start == "coarser")
