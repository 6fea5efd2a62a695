"""The interface of an engine, its codes, and the checks of its input.

An engine computes the flow of many pairs as floats, or as the codes of a quantiser.
An engine that quantises where it computes is a `CodesSolver`: a quarter of the bytes leave the GPU
then, and the extraction asks every engine for codes. `codes_solver` makes one of any other engine,
by way of floats.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import GpuError, InvalidParameterError
from flowkit.quantize import Quantized, Quantizer
from flowkit.typing import Flow
from flowkit.validate import check_array


class Solver(Protocol):
    """One engine, ready for one set of parameters."""

    @property
    def name(self) -> str:
        """The backend's name: "opencv", "cpu", "cuda" or "reference"."""

    @property
    def device(self) -> str:
        """The device that computes: "cpu", or the name of the GPU."""

    @property
    def version(self) -> str:
        """Version of the library or kernels, as the store keeps it."""

    @property
    def deviations(self) -> tuple[str, ...]:
        """Departures from the parameters, one phrase each; empty if it honours all."""

    @property
    def pairs_per_call(self) -> int:
        """Number of pairs of consecutive frames that suits one `flow_batch` best."""

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of many pairs among the frames.

        Parameters
        ----------
        frames : array, (n, H, W), uint8 or float32 in [0, 255]
        pairs : int array, (m, 2)
            Rows (k, l): the flow from frame k to frame l.
        threads : int
            Pairs in work at once; the result does not depend on it.

        Returns
        -------
        float32 array, (m, 2, H, W)
            u to the right, then v downwards; px.
        """


@runtime_checkable
class GpuSolver(Protocol):
    """An engine on a GPU, as the process that owns it looks after it."""

    def enter_thread(self) -> None:
        """Make the GPU that of this thread, which nobody else uses."""

    def failure(self) -> GpuError | None:
        """Return the error that ended the GPU, a call into the driver that does not return included."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """The engine that computed some flow: the fields of a `Solver` of these names."""

    name: str
    device: str
    version: str
    deviations: tuple[str, ...] = ()

    @classmethod
    def of(cls, solver: Solver) -> EngineInfo:
        """Return those of a solver."""
        return cls(
            name=solver.name, device=solver.device, version=solver.version, deviations=solver.deviations
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowCodes:
    """The codes of many flows, with scale, largest component and number clipped of each.

    Attributes
    ----------
    codes : array of the quantiser's dtype, (m, 2, H, W)
        u, then v.
    scales : float32 array, (m,)
        px a code.
    largest_px : float32 array, (m,)
        Largest absolute component of each flow, px.
    clipped : int32 array, (m,)
        Components of each flow that the code cannot hold.
    seconds : mapping
        Seconds of each stage, all pairs together; only stages that the engine can distinguish.
        "upload", "solve" and "download" of batches that a GPU has in work side by side
        overlap.
    engine : EngineInfo or None
        The engine that computed, where the solver is a way to several; None: the solver itself.
    """

    codes: NDArray[np.number]
    scales: NDArray[np.float32]
    largest_px: NDArray[np.float32]
    clipped: NDArray[np.int32]
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    engine: EngineInfo | None = None

    def fields(self) -> Iterator[Quantized]:
        """Yield the flows one by one."""
        each = zip(self.codes, self.scales, self.largest_px, self.clipped, strict=True)
        for codes, scale, largest, clipped in each:
            yield Quantized(codes, scale=float(scale), largest_px=float(largest), clipped=int(clipped))


def quantize_flows(flows: NDArray[np.float32], quantizer: Quantizer) -> FlowCodes:
    """Quantise many flows on the host, pair by pair; without `seconds`.

    Parameters
    ----------
    flows : float32 array, (m, 2, H, W)
        px.
    quantizer : Quantizer

    Raises
    ------
    InvalidParameterError
        A flow is not finite.
    """
    codes = np.empty(flows.shape, quantizer.dtype)
    scales, largest = np.zeros(len(flows), np.float32), np.zeros(len(flows), np.float32)
    clipped = np.zeros(len(flows), np.int32)
    for k in range(len(flows)):
        flow: Flow = flows[k]
        codes[k], scales[k], largest[k], clipped[k] = quantizer.quantize(flow)
    return FlowCodes(codes=codes, scales=scales, largest_px=largest, clipped=clipped)


@runtime_checkable
class CodesSolver(Protocol):
    """An engine that quantises its flow."""

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
    """Return a `CodesSolver` for a solver: the solver itself if it is one, else a `HostCodes`."""
    return solver if isinstance(solver, CodesSolver) else HostCodes(solver)


Grey: TypeAlias = NDArray[np.uint8 | np.float32]
"""Grey values in [0, 255]."""


def check_pair(I0: ArrayLike, I1: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return two grey images as arrays, after checking that they can be a pair.

    Parameters
    ----------
    I0, I1 : array, (H, W), uint8 or floating
        Grey values in [0, 255]; both of one shape, from 1x1 up.

    Returns
    -------
    I0, I1 : array, (H, W), dtypes unchanged

    Raises
    ------
    InvalidParameterError
        A wrong shape or dtype, or a value that is not finite or outside [0, 255].
    """
    first, second = np.asarray(I0), np.asarray(I1)
    for name, image in (("I0", first), ("I1", second)):
        _check_grey(name, image, ("H", "W"))
    if first.shape != second.shape:
        raise InvalidParameterError(
            f"I0 and I1 must have one shape, got {first.shape} and {second.shape}; resize one of them"
        )
    return first, second


def check_batch(frames: ArrayLike, pairs: ArrayLike) -> tuple[Grey, NDArray[np.int32]]:
    """Return a batch as contiguous arrays, after checking that its pairs exist.

    Parameters
    ----------
    frames : array, (n, H, W), uint8 or floating
        Grey values in [0, 255].
    pairs : array, (m, 2), integer
        Rows (k, l): the flow from frame k to frame l; indices in [0, n); m may be 0.

    Returns
    -------
    frames : array, (n, H, W), uint8 or float32, C-contiguous
    pairs : int32 array, (m, 2), C-contiguous

    Raises
    ------
    InvalidParameterError
        A wrong shape or dtype, a value outside its range, or an index without a frame.
    """
    grey, rows = np.asarray(frames), np.asarray(pairs)
    _check_grey("frames", grey, ("n", "H", "W"))
    if rows.size == 0:
        rows = np.zeros((0, 2), np.int32)
    check_array("pairs", rows, ("m", 2), dtype=np.integer)
    if rows.size and not (0 <= rows.min() and rows.max() < len(grey)):
        raise InvalidParameterError(
            f"pairs must hold indices in [0, {len(grey)}), got {rows.min()} to {rows.max()}"
        )
    contiguous: Grey = np.ascontiguousarray(grey, np.uint8 if grey.dtype == np.uint8 else np.float32)
    return contiguous, np.ascontiguousarray(rows, np.int32)


def _check_grey(name: str, grey: NDArray[np.generic], shape: tuple[str, ...]) -> None:
    check_array(
        name,
        grey,
        shape,
        dtype=(np.uint8, np.floating),
        allow_empty=False,
        remedy="turn colour into grey with flowkit.frames, and other numbers into float32 in [0, 255]",
    )
    if grey.dtype == np.uint8:
        return
    low, high = float(grey.min()), float(grey.max())
    # NaN fails both comparisons, infinities one of them.
    if not (low >= 0 and high <= 255):
        raise InvalidParameterError(
            f"{name} must hold finite grey values in [0, 255], got {low:g} to {high:g}; scale or clip it"
        )
