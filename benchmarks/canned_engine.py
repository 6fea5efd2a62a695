"""An engine that computes nothing: codes that were computed before, handed out at a set rate.

It stands in for a GPU where all but the solver is measured. A server process loads it as the engine
"canned" once `register` is called there.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import BackendError
from flowkit.quantize import Quantized, Quantizer
from flowkit.tvl1.backend import ENGINES
from flowkit.tvl1.engine import FlowCodes, check_batch
from flowkit.tvl1.params import TVL1Params

CODES_VARIABLE, RATE_VARIABLE = "FLOWKIT_CANNED_CODES", "FLOWKIT_CANNED_RATE"

PAIRS_PER_CALL = 256
"""As many as the CUDA engine takes at once."""


class CannedSolver:
    """A CodesSolver that repeats the codes of a file.

    Parameters
    ----------
    codes
        int8 (n, 2, H, W): each request takes the next of them, going round.
    scales, largest_px
        float32 (n,).
    rate
        Pairs a second of all threads together.
    """

    name, device, version, deviations = "cpu", "canned", "0", ()
    pairs_per_call = PAIRS_PER_CALL

    def __init__(
        self,
        codes: NDArray[np.int8],
        scales: NDArray[np.float32],
        largest_px: NDArray[np.float32],
        rate: float,
    ) -> None:
        self._codes, self._scales, self._largest_px, self._rate = codes, scales, largest_px, rate
        self._next, self._free_at = 0, 0.0
        self._lock = threading.Lock()

    def fields(self) -> list[Quantized]:
        """Return its codes, each once."""
        each = zip(self._codes, self._scales, self._largest_px, strict=True)
        return [
            Quantized(codes, scale=float(scale), largest_px=float(px), clipped=0) for codes, scale, px in each
        ]

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        """Refuse: there are codes alone."""
        raise BackendError("the canned engine has codes, no floats")

    def codes_batch(self, frames: ArrayLike, pairs: ArrayLike, *, quantizer: Quantizer) -> FlowCodes:
        """Return the next codes when a GPU of the set rate would have them."""
        grey, rows = check_batch(frames, pairs)
        if grey.shape[1:] != self._codes.shape[2:] or quantizer.dtype != self._codes.dtype:
            raise BackendError(f"the codes are of another size or type than {grey.shape[1:]}")
        np.take(grey, np.unique(rows), axis=0)  # to pinned memory
        with self._lock:
            chosen = (self._next + np.arange(len(rows))) % len(self._codes)
            self._next += len(rows)
            self._free_at = max(self._free_at, time.monotonic()) + len(rows) / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))
        return FlowCodes(
            codes=np.take(self._codes, chosen, axis=0),
            scales=self._scales[chosen],
            largest_px=self._largest_px[chosen],
            clipped=np.zeros(len(rows), np.int32),
            seconds={"solve": len(rows) / self._rate},
        )


def load(params: TVL1Params) -> CannedSolver:
    """Return the solver whose codes and rate the environment names."""
    with np.load(os.environ[CODES_VARIABLE]) as canned:
        fields = canned["codes"], canned["scales"], canned["largest_px"]
        return CannedSolver(*fields, float(os.environ[RATE_VARIABLE]))


def register() -> None:
    """Make the engine one that this process knows by the name "canned"."""
    ENGINES["canned"] = __name__
