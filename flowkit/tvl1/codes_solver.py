"""Engines that give codes instead of floats: what the extraction asks every engine for.

An engine that quantises where it computes is a `CodesSolver`: a quarter of the bytes leave the
GPU then. `codes_solver` makes one of any other engine, by way of floats.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.quantize import largest_px, quantize_i8, quantize_i16, quantize_u8
from flowkit.tvl1.backend import Solver
from flowkit.tvl1.codes import CODE_DTYPES, Code, FlowCodes, check_code
from flowkit.typing import Flow


@runtime_checkable
class CodesSolver(Protocol):
    """An engine that quantises what it computes."""

    def codes_batch(
        self, frames: ArrayLike, pairs: ArrayLike, *, code: Code, bound_px: float | None = None
    ) -> FlowCodes:
        """Compute as `Solver.flow_batch` does, and return codes instead of floats.

        Parameters
        ----------
        frames, pairs : arrays
            As for `Solver.flow_batch`.
        code : {"i8", "i16", "u8"}
            Of `flowkit.quantize`.
        bound_px : float, optional
            Half the range of `u8`, px; for that code alone, and needed there.

        Raises
        ------
        InvalidParameterError
            No such code or bound; a flow that is not finite.
        """


class HostCodes:
    """A `CodesSolver` for an engine that gives floats: quantised on the host, pair by pair.

    Parameters
    ----------
    solver : Solver
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    def codes_batch(
        self, frames: ArrayLike, pairs: ArrayLike, *, code: Code, bound_px: float | None = None
    ) -> FlowCodes:
        """Compute and quantise; as `CodesSolver.codes_batch`."""
        check_code(code, bound_px)
        began = time.perf_counter()
        flows = self._solver.flow_batch(frames, pairs)
        solved = time.perf_counter()
        codes = np.empty(flows.shape, CODE_DTYPES[code])
        largest, clipped = np.zeros(len(flows), np.float32), np.zeros(len(flows), np.int32)
        for k, flow in enumerate(flows):
            codes[k], clipped[k] = _quantized(flow, code, bound_px)
            largest[k] = largest_px(flow)
        # Quantising is the first half of encoding, on the same core.
        seconds = {"solve": solved - began, "encode": time.perf_counter() - solved}
        return FlowCodes(codes=codes, largest_px=largest, clipped=clipped, seconds=seconds)


def _quantized(flow: Flow, code: Code, bound_px: float | None) -> tuple[NDArray[Any], int]:
    """Return the codes of one flow, and how many components were clipped."""
    if code == "i8":
        return quantize_i8(flow)[0], 0
    if code == "i16":
        return quantize_i16(flow)
    assert bound_px is not None, "check_code comes first"
    return quantize_u8(flow, bound_px=bound_px)


def codes_solver(solver: Solver) -> CodesSolver:
    """Return what gives a solver's flow as codes: the solver itself where it can."""
    return solver if isinstance(solver, CodesSolver) else HostCodes(solver)
