"""OpenCV's DualTVL1 on the CPU behind the engines' interface: fallback, and peer to compare with.

cv2 fixes much that TVL1Params leaves free; departures from the parameters are listed in
`deviations`, and parameters that cannot be approximated are refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.engine import check_batch
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.pyramid import level_sizes

CV2_BICUBIC_A = -0.75
"""Keys' parameter of cv2.remap INTER_CUBIC."""

MIN_SIDE_PX = 3
"""cv2 reads beyond frames with a shorter side (its checks are in debug builds only)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OpenCVSolver:
    """cv2.optflow's DualTVL1 for one set of parameters."""

    name: ClassVar[str] = "opencv"
    device: ClassVar[str] = "cpu"
    version: ClassVar[str] = f"OpenCV {cv2.__version__}"
    pairs_per_call: ClassVar[int] = 1

    params: TVL1Params

    @property
    def deviations(self) -> tuple[str, ...]:
        """Departures of cv2 from the parameters, one phrase each."""
        return deviations_of(self.params)

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair, `threads` pairs at once.

        Parameters and result as in `flowkit.tvl1.engine.Solver.flow_batch`.

        Raises
        ------
        InvalidParameterError
            Frames or pairs of a wrong shape, dtype or range.
        BackendError
            Frames that cv2 cannot take: a side under 3 px, or too large for it.
        """
        grey, rows = check_batch(frames, pairs)
        height, width = grey.shape[1:]
        if min(height, width) < MIN_SIDE_PX:
            raise BackendError(
                f"backend 'opencv' needs frames of at least {MIN_SIDE_PX}x{MIN_SIDE_PX} px, "
                f"got {width}x{height}; use backend 'cpu' or 'reference'"
            )
        if grey.dtype != np.uint8:
            grey = grey / np.float32(255)  # cv2 takes floating images as [0, 1]
        out = np.empty((len(rows), 2, height, width), np.float32)

        def solve(index: int) -> None:
            first, second = rows[index]
            out[index] = _solve_pair(self.params, grey[first], grey[second])

        with one_cv2_thread(), ThreadPoolExecutor(max_workers=threads) as pool:
            # cv2 releases the GIL; iterating raises what a pair raised.
            for _ in pool.map(solve, range(len(rows))):
                pass
        return out


def _solve_pair(params: TVL1Params, I0: NDArray[np.generic], I1: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the flow of one pair, float32 (2, H, W), px."""
    try:
        # cv2's None-typed argument is the initial flow, which we never give.
        flow = make_dual_tvl1(params, (I0.shape[0], I0.shape[1])).calc(I0, I1, None)
    except cv2.error as error:
        raise BackendError(f"OpenCV failed on a pair of {I0.shape[1]}x{I0.shape[0]} px: {error}") from error
    return np.moveaxis(flow, 2, 0)


def make_dual_tvl1(params: TVL1Params, shape: tuple[int, int]) -> Any:
    """Return a cv2.optflow.DualTVL1OpticalFlow for frames of one shape (height, width), px.

    A new object for each pair: cv2 lowers its number of scales for good after a small
    frame, and its buffers allow one call at a time.

    Without a median cv2's inner and outer loops are one loop of `iterations`; with it, one
    outer step is a median and `median_every` iterations.
    """
    optflow: Any = cv2.optflow  # its stub lacks the class
    solver = optflow.DualTVL1OpticalFlow_create()
    inner = params.median_every if params.median else 1
    solver.setTau(params.tau)
    solver.setLambda(params.lambda_)
    solver.setTheta(params.theta)
    solver.setScalesNumber(len(level_sizes(shape, params)))
    solver.setScaleStep(params.scale_step)
    solver.setWarpingsNumber(params.warps)
    solver.setEpsilon(params.epsilon)
    solver.setMedianFiltering(params.median or 1)
    solver.setInnerIterations(inner)
    solver.setOuterIterations(-(-params.iterations // inner))
    return solver


@functools.cache
def rounds_positions() -> bool:
    """Return whether cv2.remap INTER_CUBIC rounds positions to 1/32 px, as OpenCV 4 does and 5 does not."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    at = np.full((1, 1), 3, np.float32)
    sample = cv2.remap(ramp, at + np.float32(0.01), at, cv2.INTER_CUBIC)
    return bool(sample[0, 0] == 3)


def deviations_of(params: TVL1Params) -> tuple[str, ...]:
    """Return one phrase for each departure of cv2 from `params`."""
    found = ["warped positions are rounded to 1/32 px"] if rounds_positions() else []
    if params.pyramid == "pyrdown":
        found.append("pyramid: bilinear resize by 0.5 with half-pixel centres, not pyrdown")
    if params.bicubic_a != CV2_BICUBIC_A:
        found.append(f"bicubic_a: {CV2_BICUBIC_A}, not {params.bicubic_a}")
    if params.border == "clamp":
        found.append("border: zeros are blended in from outside, which switches the data term off, not clamp")
    else:
        found.append("border: within 2 px of it zeros are blended in from outside")
    if params.check_every != 1:
        found.append(f"check_every: 1, not {params.check_every}")
    if params.median and params.iterations % params.median_every:
        rounded = -(-params.iterations // params.median_every) * params.median_every
        found.append(f"iterations: {rounded}, not {params.iterations}")
    return (*found, *_deviations_from_model(params))


def _deviations_from_model(params: TVL1Params) -> list[str]:
    """Return one phrase for each step that cv2, which has the published model alone, does not take."""
    found = []
    if params.check_first:
        found.append(f"check_first: 0, not {params.check_first}")
    if params.warp_snap:
        found.append(f"warp_snap: 0, not {params.warp_snap}")
    if params.gradient_taps != 3:
        found.append(f"gradient_taps: 3, not {params.gradient_taps}")
    if params.dual != "semi-implicit":
        found.append(f"dual: semi-implicit, not {params.dual}")
    if params.dual_start != "zero":
        found.append(f"dual_start: zero, not {params.dual_start}")
    if params.edge_alpha:
        found.append(f"edge_alpha: 0, which weighs all edges alike, not {params.edge_alpha}")
    if params.weighted_median:
        found.append(f"weighted_median: none, not of side {params.weighted_median} px")
    return found


def _refuse_what_cv2_lacks(params: TVL1Params) -> None:
    lacking = {
        "pyramid='gaussian'": params.pyramid == "gaussian",
        "normalize": params.normalize,
        "presmooth_sigma": params.presmooth_sigma > 0,
    }
    asked = [name for name, wanted in lacking.items() if wanted]
    if asked:
        raise BackendError(
            f"backend 'opencv' has no {', '.join(asked)}; use backend 'cpu' or 'reference', "
            "or a preset without it (not 'ipol')"
        )


_threads_lock = threading.Lock()
_calls_under_way = 0
_threads_before = 1


@contextlib.contextmanager
def one_cv2_thread() -> Iterator[None]:
    """Limit cv2 to one thread of its own while pairs are in work.

    cv2's setting is one for the whole process, so the first caller in sets it and the last
    one out restores it. Its own threads inside a pair gain little (a serial sum is left)
    and would crowd the cores that work on other pairs.
    """
    global _calls_under_way, _threads_before
    with _threads_lock:
        if _calls_under_way == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _calls_under_way += 1
    try:
        yield
    finally:
        with _threads_lock:
            _calls_under_way -= 1
            if _calls_under_way == 0:
                cv2.setNumThreads(_threads_before)


def load(params: TVL1Params) -> OpenCVSolver:
    """Return cv2's DualTVL1 as a solver.

    Raises
    ------
    BackendUnavailableError
        The cv2 installed has no optflow module.
    BackendError
        It cannot honour `params`, not even roughly.
    """
    if not hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"):
        raise BackendUnavailableError(
            f"backend 'opencv' is unavailable: OpenCV {cv2.__version__} has no optflow module; "
            "uninstall every OpenCV wheel and install opencv-contrib-python-headless alone"
        )
    _refuse_what_cv2_lacks(params)
    return OpenCVSolver(params=params)
