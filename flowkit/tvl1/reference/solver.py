"""TV-L1 optical flow in float64 NumPy: the oracle of every engine.

It minimises over the flow u = (u1, u2), with the data term linearised at u0::

    sum |grad u1| + |grad u2| + lambda |rho(u)|,
    rho(u) = I1(x + u0) + (u - u0) . grad I1(x + u0) - I0(x)

by alternating a point-wise thresholding for v and a projected dual step for u, coupled by
|u - v|^2 / (2 theta), over a pyramid and several linearisations ("warps") a level. The
equations are in reference/steps.py. Correct before fast: the engines are held to it.

Source: Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow",
DAGM 2007; Sánchez, Meinhardt-Llopis, Facciolo, "TV-L1 optical flow estimation", IPOL 2013
(doi 10.5201/ipol.2013.26); OpenCV's optflow/src/tvl1flow.cpp and cudaoptflow/src/cuda/
tvl1flow.cu for the presets. docs/numerics.md lists every deviation.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.tvl1.engine import check_batch, check_pair
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params, resolve_params
from flowkit.tvl1.reference.pyramid import build_pyramid, gaussian_blur, upsample_dual, upsample_flow
from flowkit.tvl1.reference.steps import (
    DataTerm,
    centered_gradient,
    dual_step,
    edge_weight,
    five_tap_gradient,
    has_converged,
    linearise,
    median_5x5,
    normalize_jointly,
    primal_step,
    projected_dual_step,
    still_blocks,
    threshold_step,
    weighted_median,
)
from flowkit.typing import Float64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LevelTrace:
    """Work on one pyramid level: its size in px and the iterations of each warp."""

    height: int
    width: int
    iterations: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TVL1Trace:
    """Work on one pair, level by level, the coarsest first (the order of the work)."""

    levels: tuple[LevelTrace, ...]

    @property
    def iterations(self) -> int:
        """All iterations of all levels and warps."""
        return sum(sum(level.iterations) for level in self.levels)

    @property
    def pixel_iterations(self) -> int:
        """Iterations times the pixels of their level: the unit of the engines' speed."""
        return sum(level.height * level.width * sum(level.iterations) for level in self.levels)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TVL1Result:
    """The twin's flow, float64 (2, H, W) in px per frame step, and its iterations."""

    flow: Float64
    trace: TVL1Trace


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The flow u, float64 (2, H, W), px, and its dual p, float64 (2, 2, H, W), of one level.

    `still`, bool (H, W), marks pixels that iterate no more; False is none.
    """

    u: Float64
    p: Float64
    still: NDArray[np.bool_] | bool = False

    @classmethod
    def zero(cls, size: tuple[int, ...]) -> State:
        """Return the state of the coarsest level, of (height, width) px."""
        return cls(u=np.zeros((2, *size)), p=np.zeros((2, 2, *size)))


def finer_state(state: State, size: tuple[int, ...], params: TVL1Params) -> State:
    """Return the start of the next finer level, of (height, width) px."""
    height, width = size
    start = State.zero(size)
    if params.dual_start == "coarser":
        start = dataclasses.replace(start, p=upsample_dual(state.p, (height, width), params))
    return dataclasses.replace(start, u=upsample_flow(state.u, (height, width), params))


def solve_warp(
    data: DataTerm, state: State, weight: Float64 | float, params: TVL1Params
) -> tuple[State, int]:
    """Iterate one linearisation until it has converged or `iterations` are done.

    Iterations count from 1. A median comes before iterations 1, 1 + median_every, ...; the
    stopping rule is tested after iterations check_first and check_every, 2 check_every, ..., on
    the change of that one iteration, the median not included. With `block_epsilon`, blocks that it
    finds still keep u and p from the test of check_first on.

    Parameters
    ----------
    data : DataTerm
    state : State
    weight : float64 array, (H, W), or float
        Of the total variation.
    params : TVL1Params

    Returns
    -------
    state : State
    iterations : int
        Those done, at least 1.
    """
    u, p, still = state.u, state.p, state.still
    for done in itertools.count(1):
        if params.median and (done - 1) % params.median_every == 0:
            u = median_5x5(u)
        u_before = u
        v = threshold_step(u, data, params.lambda_ * params.theta)
        u = np.where(still, u, primal_step(v, p, params.theta))
        if params.dual == "projected":
            p_new = projected_dual_step(p, u, params.tau / params.theta, weight)
        else:
            p_new = dual_step(p, u, params.tau / params.theta)
        p = np.where(still, p, p_new)
        tested = done == params.check_first or done % params.check_every == 0
        if done == params.iterations or (tested and has_converged(u, u_before, params.epsilon)):
            break
        if params.epsilon and params.block_epsilon and done == params.check_first:
            still = still | still_blocks(u, u_before, params.block_epsilon)
    return State(u=u, p=p, still=still), done


def solve_level(I0: Float64, I1: Float64, state: State, params: TVL1Params) -> tuple[State, LevelTrace]:
    """Refine u on one level; p is carried from warp to warp.

    A warp that converges at the test of `check_first` is the level's last.

    Parameters
    ----------
    I0, I1 : float64 array, (H, W)
    state : State
        The start, px of this level.
    params : TVL1Params

    Returns
    -------
    state : State
    trace : LevelTrace
        A warp that was left out has 0 iterations.
    """
    gradient = five_tap_gradient if params.gradient_taps == 5 else centered_gradient
    I1_planes = np.concatenate([I1[None], gradient(I1)])
    weight = edge_weight(I0, params.edge_alpha, params.edge_beta) if params.edge_alpha else 1.0
    counts: list[int] = []
    still = False
    while len(counts) < params.warps and not still:
        data = linearise(I0, I1_planes, state.u, params)
        state, done = solve_warp(data, state, weight, params)
        counts.append(done)
        still = done == params.check_first < min(params.check_every, params.iterations)
        last = still or len(counts) == params.warps
        if params.weighted_median and (last or params.weighted_median_after == "warp"):
            state = dataclasses.replace(state, u=weighted_median(state.u, I0, params))
    counts += [0] * (params.warps - len(counts))
    return state, LevelTrace(height=I0.shape[0], width=I0.shape[1], iterations=tuple(counts))


def prepare(I0: NDArray[np.generic], I1: NDArray[np.generic], params: TVL1Params) -> tuple[Float64, Float64]:
    """Return both images in float64, normalised and blurred as the parameters ask."""
    a, b = I0.astype(np.float64), I1.astype(np.float64)
    if params.normalize:
        a, b = normalize_jointly(a, b)
    return gaussian_blur(a, params.presmooth_sigma), gaussian_blur(b, params.presmooth_sigma)


def tvl1_flow(I0: ArrayLike, I1: ArrayLike, *, params: TVL1Params | str = DEFAULT_PRESET) -> TVL1Result:
    """Compute the flow from I0 to I1 in float64.

    Parameters
    ----------
    I0, I1 : array, (H, W), uint8 or floating in [0, 255]
    params : TVL1Params or the name of a preset

    Returns
    -------
    TVL1Result
        `flow`, float64 (2, H, W): u to the right, v downwards, px, such that I1(x + flow)
        looks like I0(x); `trace`, the iterations of each level and warp.

    Raises
    ------
    InvalidParameterError
        Images that cannot be a pair, or no such preset.
    """
    params = resolve_params(params)
    a, b = prepare(*check_pair(I0, I1), params)
    levels = list(zip(build_pyramid(a, params), build_pyramid(b, params), strict=True))[::-1]
    state = State.zero(levels[0][0].shape)
    traces: list[LevelTrace] = []
    for level0, level1 in levels:
        if traces:
            state = finer_state(state, level0.shape, params)
        state, trace = solve_level(level0, level1, state, params)
        traces.append(trace)
    return TVL1Result(flow=state.u, trace=TVL1Trace(levels=tuple(traces)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceSolver:
    """The twin behind the engines' interface: for tests and comparisons, never for speed."""

    name: ClassVar[str] = "reference"
    device: ClassVar[str] = "cpu"
    version: ClassVar[str] = f"numpy {np.__version__}"
    deviations: ClassVar[tuple[str, ...]] = ()
    pairs_per_call: ClassVar[int] = 1

    params: TVL1Params

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair, one after the other whatever `threads` says.

        Parameters and errors as in `flowkit.tvl1_flow_batch`.
        """
        grey, rows = check_batch(frames, pairs)
        out = np.empty((len(rows), 2, *grey.shape[1:]), np.float32)
        for flow, (first, second) in zip(out, rows, strict=True):
            flow[...] = tvl1_flow(grey[first], grey[second], params=self.params).flow
        return out


def load(params: TVL1Params) -> ReferenceSolver:
    """Return the twin as a solver."""
    return ReferenceSolver(params=params)
