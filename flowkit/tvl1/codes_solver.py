"""Engines that give codes instead of floats: what the extraction asks every engine for.

An engine that quantises where it computes is a `CodesSolver`: a quarter of the bytes leave the
GPU then. `codes_solver` makes one of any other engine, by way of floats.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from flowkit.quantize import Quantizer
from flowkit.tvl1.backend import Solver
from flowkit.tvl1.codes import FlowCodes, quantize_flows


@runtime_checkable
class CodesSolver(Protocol):
    """An engine that quantises what it computes."""

    def codes_batch(self, frames: ArrayLike, pairs: ArrayLike, *, quantizer: Quantizer) -> FlowCodes:
        """Compute as `Solver.flow_batch` does, and return codes instead of floats.

        Parameters
        ----------
        frames, pairs : arrays
            As for `Solver.flow_batch`.
        quantizer : Quantizer
            Makes the codes; an engine may do its work elsewhere, bit for bit.

        Raises
        ------
        InvalidParameterError
            A flow is not finite.
        """


class HostCodes:
    """A `CodesSolver` for an engine that gives floats: quantised on the host, pair by pair.

    Parameters
    ----------
    solver : Solver
    """

    def __init__(self, solver: Solver) -> None:
        self._solver = solver

    def codes_batch(self, frames: ArrayLike, pairs: ArrayLike, *, quantizer: Quantizer) -> FlowCodes:
        """Compute and quantise; as `CodesSolver.codes_batch`."""
        began = time.perf_counter()
        flows = self._solver.flow_batch(frames, pairs)
        solved = time.perf_counter()
        made = quantize_flows(flows, quantizer)
        # Quantising is the first half of encoding, on the same core.
        seconds = {"solve": solved - began, "encode": time.perf_counter() - solved}
        return dataclasses.replace(made, seconds=seconds)


def codes_solver(solver: Solver) -> CodesSolver:
    """Return what gives a solver's flow as codes: the solver itself where it can."""
    return solver if isinstance(solver, CodesSolver) else HostCodes(solver)
