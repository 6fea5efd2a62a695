"""The forms in which flow is handed out: as stored, in px, or as the pixels of TSN's pictures."""

from __future__ import annotations

import functools
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import U8_LEVELS, dequantize_u8, quantize_u8
from flowkit.store.schema import StoreOptions

FlowForm: TypeAlias = Literal["codes", "px", "tsn"]
_STORED: dict[str, np.dtype[Any]] = {
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "jpeg": np.dtype(np.uint8),
}


def form_dtype(form: FlowForm, options: StoreOptions) -> np.dtype[Any]:
    """Return the type of a store's flow in a form."""
    if form == "codes":
        return _STORED[options.flow_codec]
    return np.dtype(np.float32 if form == "px" else np.uint8)


def form_offset_px(form: FlowForm, options: StoreOptions) -> float:
    """Return what to add to flow * scale: minus the bound where flow is uint8, else 0."""
    return -options.bound_px if form_dtype(form, options) == np.uint8 else 0.0


def put_flow(
    form: FlowForm, codes: NDArray[Any], scale: float, *, bound_px: float, out: NDArray[Any]
) -> float:
    """Write one stored field in a form into `out`; return its scale, px a unit.

    Parameters
    ----------
    codes
        int8, int16 or uint8 (2, H, W).
    scale
        px a code.
    bound_px
        Half the range of uint8, px.
    out
        (2, H, W) of `form_dtype`.
    """
    if form == "codes":
        out[...] = codes
        return scale
    if form == "px":
        if codes.dtype == np.uint8:
            out[...] = dequantize_u8(codes, bound_px=bound_px)
        else:
            np.multiply(codes, np.float32(scale), out=out)
        return 1.0
    if codes.dtype == np.uint8:
        out[...] = codes
    elif codes.dtype == np.int8:
        out[...] = _tsn_table(scale, bound_px)[codes.view(np.uint8)]
    else:
        out[...] = quantize_u8(codes * np.float32(scale), bound_px=bound_px)[0]
    return 2 * bound_px / U8_LEVELS


@functools.lru_cache(maxsize=64)
def _tsn_table(scale: float, bound_px: float) -> NDArray[np.uint8]:
    """Return TSN's pixel for each byte of an int8 code: several times faster than arithmetic."""
    values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    return quantize_u8(values * np.float32(scale), bound_px=bound_px)[0]
