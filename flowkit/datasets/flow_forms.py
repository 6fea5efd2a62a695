"""The forms in which flow is handed out: as stored, in px, or as the pixels of TSN's pictures."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit.quantize import U8_LEVELS
from flowkit.store.schema import StoreOptions

FlowForm: TypeAlias = Literal["codes", "px", "tsn"]


def form_dtype(form: FlowForm, options: StoreOptions) -> np.dtype[Any]:
    """Return the type of a store's flow in a form."""
    if form == "codes":
        return options.codec.dtype
    return np.dtype(np.float32 if form == "px" else np.uint8)


def form_offset_px(form: FlowForm, options: StoreOptions) -> float:
    """Return what to add to flow * scale to have px."""
    if form == "codes":
        return options.codec.offset_px
    return -options.bound_px if form == "tsn" else 0.0


def put_flow(
    form: FlowForm, codes: NDArray[Any], scale: float, *, options: StoreOptions, out: NDArray[Any]
) -> float:
    """Write one stored field in a form into `out`; return its scale, px a unit.

    Parameters
    ----------
    codes
        (2, H, W), of the store's codec.
    scale
        px a code.
    options
        Of the store; `bound_px` is half the range of form `tsn`.
    out
        (2, H, W) of `form_dtype`.
    """
    if form == "codes":
        out[...] = codes
        return scale
    if form == "px":
        options.codec.to_px(codes, scale, out=out)
        return 1.0
    out[...] = options.codec.to_planes(codes, scale, bound_px=options.bound_px)[0]
    return 2 * options.bound_px / U8_LEVELS
