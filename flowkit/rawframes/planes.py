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
    table, limit = _table(codes.dtype.str, float(scale), float(bound_px))
    clipped = 0
    if limit is not None:
        clipped = int(np.count_nonzero(codes > limit)) + int(np.count_nonzero(codes < -limit))
    # Few values a code: each is quantised once, not once a pixel.
    if codes.dtype.itemsize == 1:
        # Four times as fast as indexing an array.
        planes = np.frombuffer(codes.tobytes().translate(table.tobytes()), np.uint8)
        return planes.reshape(codes.shape), clipped
    return np.take(table, codes.view(np.uint16)), clipped


@functools.lru_cache(maxsize=64)
def _table(dtype: str, scale: float, bound_px: float) -> tuple[NDArray[np.uint8], int | None]:
    """Return the uint8 code of each stored code seen as unsigned, and the largest that is not clipped.

    None for the latter where nothing can be clipped.
    """
    kind = np.dtype(dtype)
    every = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}").view(kind)
    flow = every * np.float32(scale)
    planes, clipped = quantize_u8(flow, bound_px=bound_px)
    return planes, int(every[np.abs(flow) <= bound_px].max()) if clipped else None
