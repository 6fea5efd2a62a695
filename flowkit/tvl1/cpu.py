"""The native CPU engine: C++ behind a plain C interface, loaded with ctypes.

The sources are in native/; `pip install` builds them where it finds a C++ compiler and
leaves them out otherwise. Importing this module loads nothing native; `load` does.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError, BackendUnavailableError
from flowkit.tvl1.engine import check_batch
from flowkit.tvl1.params import TVL1Params
from flowkit.validate import check_at_least, check_choice

ABI_VERSION = 3
"""FLOWKIT_TVL1_ABI_VERSION of native/abi.h."""

_PYRAMIDS = {"resize": 0, "pyrdown": 1, "gaussian": 2}
_BORDERS = {"clamp": 0, "off": 1}
_DUALS = {"semi-implicit": 0, "projected": 1}
_DUAL_STARTS = {"zero": 0, "coarser": 1}
_FILTER_AFTER = {"warp": 0, "level": 1}
_REMEDY = "install a C++17 compiler (g++ or clang++) and run `pip install .` in the checkout again"
_FAILURES = {
    1: "out of memory; solve fewer frames at a time or use fewer threads",
    2: "arguments that the engine refuses (this is a mistake in flowkit: please report it)",
    3: "frames too large: a padded frame must have fewer than 2**31 pixels",
}


class _Params(ctypes.Structure):
    """FlowkitParams of native/abi.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_double) for name in ("tau", "lambda_", "theta", "scale_step", "epsilon")),
        *((name, ctypes.c_double) for name in ("bicubic_a", "presmooth_sigma", "warp_snap")),
        *((name, ctypes.c_double) for name in ("edge_alpha", "edge_beta", "block_epsilon")),
        ("weighted_median_spread", ctypes.c_double),
        *((name, ctypes.c_double) for name in ("weighted_median_grey", "weighted_median_px")),
        *((name, ctypes.c_int32) for name in ("nscales", "pyramid", "warps", "iterations")),
        *((name, ctypes.c_int32) for name in ("check_every", "median", "median_every")),
        *((name, ctypes.c_int32) for name in ("border", "normalize", "check_first", "gradient_taps")),
        *((name, ctypes.c_int32) for name in ("dual", "dual_start")),
        *((name, ctypes.c_int32) for name in ("weighted_median", "weighted_median_after")),
    ]


class _Batch(ctypes.Structure):
    """FlowkitBatch of native/abi.h."""

    _fields_: ClassVar = [
        *((name, ctypes.c_void_p) for name in ("frames", "pairs", "flow", "iterations")),
        *((name, ctypes.c_int64) for name in ("frame_count", "pair_count", "height", "width")),
        *((name, ctypes.c_int32) for name in ("dtype", "threads")),
        ("isa", ctypes.c_char_p),
    ]


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the loaded library (a failure is not cached: it may have been built meanwhile)."""
    candidates = sorted(Path(__file__).parent.glob("_native*.so"))
    if not candidates:
        raise BackendUnavailableError(f"the CPU engine is not built: no _native*.so here; {_REMEDY}")
    try:
        library = ctypes.CDLL(str(candidates[0]))
        version = library.flowkit_tvl1_abi_version()
    except (OSError, AttributeError) as error:
        raise BackendUnavailableError(f"the CPU engine does not load: {error}; {_REMEDY}") from error
    if version != ABI_VERSION:
        raise BackendUnavailableError(
            f"the CPU engine was built from other sources: interface {version}, "
            f"expected {ABI_VERSION}; build it again with `pip install .` in the checkout"
        )
    library.flowkit_tvl1_isa.restype = ctypes.c_char_p
    library.flowkit_tvl1_levels.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.flowkit_tvl1_solve.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library


def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that this machine can use, the best first.

    Returns
    -------
    tuple of str
        Of "avx512", "avx2", "baseline" (SSE2 on x86-64, NEON on AArch64).

    Raises
    ------
    BackendUnavailableError
        The library is not built or does not load.
    """
    names = map(_library().flowkit_tvl1_isa, itertools.count())
    return tuple(name.decode() for name in itertools.takewhile(bool, names))


def _native_params(params: TVL1Params) -> _Params:
    values = dataclasses.asdict(params)
    values["pyramid"] = _PYRAMIDS[params.pyramid]
    values["border"] = _BORDERS[params.border]
    values["dual"] = _DUALS[params.dual]
    values["dual_start"] = _DUAL_STARTS[params.dual_start]
    values["weighted_median_after"] = _FILTER_AFTER[params.weighted_median_after]
    for name in ("nscales", "warps", "iterations", "check_every", "median_every", "check_first"):
        values[name] = min(values[name], 2**31 - 1)
    return _Params(**values)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CpuSolver:
    """TV-L1 by the native engine, for one set of parameters.

    Parameters
    ----------
    params : TVL1Params
    isa : str
        One of `instruction_sets()`. Another set rounds otherwise, so that flows differ in
        the last digits and a warp may stop one test earlier or later.
    """

    name: ClassVar[str] = "cpu"
    version: ClassVar[str] = f"flowkit-native {ABI_VERSION}"
    deviations: ClassVar[tuple[str, ...]] = ()
    pairs_per_call: ClassVar[int] = 8

    params: TVL1Params
    isa: str

    @property
    def device(self) -> str:
        """The instruction set in use, such as "cpu/avx2"."""
        return f"cpu/{self.isa}"

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Compute the flow of each pair; each frame's pyramid is made once.

        Parameters
        ----------
        frames : array, (n, H, W), uint8 or floating
            Grey values in [0, 255].
        pairs : array, (m, 2), integer
            Rows (k, l): the flow from frame k to frame l.
        threads : int
            Most threads; the bits of the result do not depend on it.

        Returns
        -------
        float32 array, (m, 2, H, W)
            u to the right, v downwards, px.

        Raises
        ------
        InvalidParameterError
            Frames or pairs of the wrong shape, dtype or range, or threads < 1.
        BackendError
            Out of memory, or frames beyond 2**31 pixels.
        """
        return self._solve(frames, pairs, threads)[0]

    def flow_and_iterations(
        self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Compute as `flow_batch` does, and count the iterations.

        Returns
        -------
        flow : float32 array, (m, 2, H, W)
        iterations : int32 array, (m, levels, warps)
            The coarsest level first.
        """
        return self._solve(frames, pairs, threads)

    def _solve(
        self, frames: ArrayLike, pairs: ArrayLike, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        grey, rows = check_batch(frames, pairs)
        check_at_least("threads", threads, 1)
        count, (_, height, width) = len(rows), grey.shape
        native = _native_params(self.params)
        levels = _library().flowkit_tvl1_levels(ctypes.byref(native), height, width)
        flow = np.empty((count, 2, height, width), np.float32)
        iterations = np.zeros((count, levels, self.params.warps), np.int32)
        batch = _Batch(
            *(array.ctypes.data for array in (grey, rows, flow, iterations)),
            *(len(grey), count, height, width),
            *(0 if grey.dtype == np.uint8 else 1, threads),
            self.isa.encode(),
        )
        status = _library().flowkit_tvl1_solve(ctypes.byref(native), ctypes.byref(batch))
        if status:
            raise BackendError(
                f"the CPU engine failed on {len(grey)} frames of {width}x{height} px: {_FAILURES[status]}"
            )
        return flow, iterations


def load(params: TVL1Params, *, isa: str | None = None) -> CpuSolver:
    """Return the native engine as a solver.

    Parameters
    ----------
    params : TVL1Params
    isa : str, optional
        One of `instruction_sets()`; default: the best.

    Raises
    ------
    BackendUnavailableError
        The library is not built or does not load; the message says how to build it.
    InvalidParameterError
        This machine has no such instruction set.
    """
    known = instruction_sets()
    if isa is not None:
        check_choice("isa", isa, known, where="on this machine")
    return CpuSolver(params=params, isa=isa or known[0])
