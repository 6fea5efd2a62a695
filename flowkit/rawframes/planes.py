"""Stored flow codes → the two uint8 planes that a flow picture is made of."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import quantize_u8


def to_planes(codes: NDArray[Any], scale: float, *, bound_px: float) -> tuple[NDArray[np.uint8], int]:
    """Requantise one stored field to uint8 over [-bound, bound], as TSN and denseflow do.

    Parameters
    ----------
    codes
        int8 or int16 (2, H, W).
    scale
        px a code.
    bound_px
        Half the range, px, > 0; zero flow becomes 128.

    Returns
    -------
    planes : uint8 array (2, H, W)
    clipped : int
        Components outside [-bound, bound].
    """
    table, beyond = _table(codes.dtype.str, float(scale), float(bound_px))
    # A few values a code, so that each is quantised once and not once a pixel.
    index = codes.view(np.dtype(f"u{codes.dtype.itemsize}"))
    clipped = int(np.count_nonzero(beyond[index])) if beyond is not None else 0
    return table[index], clipped


@functools.lru_cache(maxsize=64)
def _table(dtype: str, scale: float, bound_px: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return the uint8 code and whether it is clipped, for each code seen as unsigned."""
    kind = np.dtype(dtype)
    every = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    flow = every * np.float32(scale)
    planes, clipped = quantize_u8(flow, bound_px=bound_px)
    return planes, np.abs(flow) > bound_px if clipped else None
