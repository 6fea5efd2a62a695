"""Flow in pixels and the integer codes that stand for it, with the error of each code.

Three codes, each with its inverse and a bound of its error:

``i8``   int8 with one scale a field, a power of two times 1/8 px: nothing clipped, zero exact.
``i16``  int16 in units of 1/64 px: a small error whatever the motion, saturating at 512 px.
``u8``   uint8 over [-bound, bound]: the mapping of TSN and denseflow, for import and export.

Every rounding is half to even, NumPy's `rint` and C's `cvRound` alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.typing import Flow
from flowkit.validate import check_range, check_that

I8_UNIT_PX = 0.125
I8_LIMIT = 127  # -128 is never a code, so that it can mark a chunk that was never written
I8_FILL = -128
I16_SCALE_PX = 1.0 / 64.0
I16_LIMIT = 32767
I16_FILL = -32768
U8_LEVELS = 255


def largest_px(flow: Flow) -> float:
    """Return the largest absolute component of a flow field, in px.

    Parameters
    ----------
    flow
        float32 (..., 2, H, W), px per frame step.

    Raises
    ------
    InvalidParameterError
        A component is NaN or infinite: no code can stand for it.
    """
    # Two reductions without a temporary; NaN goes through both of them.
    largest = max(float(flow.max()), -float(flow.min())) if flow.size else 0.0
    if not math.isfinite(largest):
        raise InvalidParameterError(
            f"flow must be finite to be quantised, got a largest component of {largest}; "
            "check the frames and the solver that made it"
        )
    return largest


def i8_scale(max_px: float) -> float:
    """Return the scale of an `i8` field: 2^k / 8 px, with the least k >= 0 that clips nothing.

    Parameters
    ----------
    max_px
        The largest absolute component of the field, u and v together, px, >= 0.
    """
    check_range("max_px", max_px, 0, math.inf, bounds="[)")
    steps = max_px / (I8_LIMIT * I8_UNIT_PX)
    if steps <= 1:
        return I8_UNIT_PX
    mantissa, exponent = math.frexp(steps)
    # steps = mantissa * 2^exponent with mantissa in [.5, 1): an exact power of two needs one less.
    return math.ldexp(I8_UNIT_PX, exponent - (mantissa == 0.5))


def is_i8_scale(scale: float) -> bool:
    """Tell whether `scale` is one that `i8_scale` can return."""
    return math.isfinite(scale) and scale >= I8_UNIT_PX and math.frexp(scale)[0] == 0.5


def quantize_i8(flow: Flow) -> tuple[NDArray[np.int8], float]:
    """Quantise one flow field to int8 codes with a scale of its own.

    Parameters
    ----------
    flow
        float32 (2, H, W), px; finite.

    Returns
    -------
    codes : int8 array of the same shape, in [-127, 127]
    scale : float
        px a code; px = codes * scale.
    """
    scale = i8_scale(largest_px(flow))
    # A power of two: the product is exact, and so is the one that decodes.
    scaled = flow * np.float32(1.0 / scale)
    return np.rint(scaled, out=scaled).astype(np.int8), scale


def dequantize_i8(codes: NDArray[np.int8], scale: float | NDArray[np.float32]) -> Flow:
    """Return the flow of int8 codes, float32 px; `scale` is one number or broadcasts."""
    return np.multiply(codes, np.asarray(scale, np.float32), dtype=np.float32)


def i8_error_bound(scale: float) -> float:
    """Return the largest error of an `i8` code of this scale, px."""
    return scale / 2


def quantize_i16(flow: Flow) -> tuple[NDArray[np.int16], int]:
    """Quantise flow to int16 codes of 1/64 px, saturating at +-32767 (511.98 px).

    Parameters
    ----------
    flow
        float32 (..., 2, H, W), px; finite.

    Returns
    -------
    codes : int16 array of the same shape, in [-32767, 32767]
    clipped : int
        How many components saturated.
    """
    largest = largest_px(flow)
    scaled = flow * np.float32(1.0 / I16_SCALE_PX)
    np.rint(scaled, out=scaled)
    clipped = 0
    if largest / I16_SCALE_PX > I16_LIMIT:
        clipped = int(np.count_nonzero(np.abs(scaled) > I16_LIMIT))
        np.clip(scaled, -I16_LIMIT, I16_LIMIT, out=scaled)
    return scaled.astype(np.int16), clipped


def dequantize_i16(codes: NDArray[np.int16]) -> Flow:
    """Return the flow of int16 codes, float32 px."""
    return codes * np.float32(I16_SCALE_PX)


def i16_error_bound() -> float:
    """Return the largest error of an unclipped `i16` code, px."""
    return I16_SCALE_PX / 2


def quantize_u8(flow: Flow, *, bound_px: float) -> tuple[NDArray[np.uint8], int]:
    """Map flow in [-bound, bound] to uint8 as TSN and denseflow do; zero becomes 128.

    Parameters
    ----------
    flow
        float32 (..., 2, H, W), px; finite.
    bound_px
        Half the range, px, > 0.

    Returns
    -------
    codes : uint8 array of the same shape
    clipped : int
        How many components lay outside [-bound, bound].

    Notes
    -----
    Source: dense_flow, `convertFlowToImage`: 0 below -bound, 255 above bound, otherwise
    ``cvRound(255 * (v - L) / (H - L))`` in double precision, which rounds half to even.
    Zero lies half way between two codes, 127.5, and so decodes to bound / 255 px.
    """
    check_bound(bound_px)
    largest = largest_px(flow)
    # The peers' own order of operations, in double: another order moves codes at the halves.
    scaled = flow.astype(np.float64)
    scaled += bound_px
    scaled *= U8_LEVELS
    scaled /= 2 * bound_px
    np.rint(scaled, out=scaled)
    clipped = int(np.count_nonzero(np.abs(flow) > bound_px)) if largest > bound_px else 0
    return np.clip(scaled, 0, U8_LEVELS, out=scaled).astype(np.uint8), clipped


def dequantize_u8(codes: NDArray[np.uint8], *, bound_px: float) -> Flow:
    """Return the flow of uint8 codes over [-bound, bound], float32 px."""
    check_bound(bound_px)
    table = np.arange(U8_LEVELS + 1) * (2 * bound_px / U8_LEVELS) - bound_px
    flow: Flow = table.astype(np.float32)[codes]
    return flow


def u8_error_bound(bound_px: float) -> float:
    """Return the largest error of an unclipped uint8 code over [-bound, bound], px."""
    check_bound(bound_px)
    return bound_px / U8_LEVELS


def check_bound(bound_px: Any) -> None:
    """Raise InvalidParameterError unless `bound_px` is a finite number above zero."""
    ok = isinstance(bound_px, int | float) and 0 < bound_px < math.inf
    check_that("bound_px", bound_px, ok, "finite and > 0", remedy="TSN uses 20")
