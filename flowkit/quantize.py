"""Flow in pixels and the integer codes that stand for it, with the error of each code.

Four rules, each with its inverse; the largest error of a code that was not clipped is half a step,
`scale / 2`. A flow codec packs the codes of one:

`QuantileScale`  one scale a field, from a quantile of it: a few outliers saturate, and coarsen nothing.
`FieldScale`     one scale a field, a power of two: nothing clipped.
`FixedStep`      one step for all fields: a small error whatever the motion, saturating at a limit.
`BoundedRange`   uint8 over [-bound, bound]: the mapping of TSN and denseflow, for import and export.

All but the last keep zero exact and have codes = clip(rint(flow * (1 / scale)), +-limit), in float32.
Every rounding is half to even, NumPy's `rint` and C's `cvRound` alike.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.typing import Flow
from flowkit.validate import check_positive, check_range, check_that

U8_LEVELS = 255
_EXACT_IN_FLOAT32 = 1 << 24


def largest_px(flow: Flow) -> float:
    """Return the largest absolute component of a flow field, in px.

    Parameters
    ----------
    flow
        float32 (..., 2, H, W), px per frame step.

    Raises
    ------
    InvalidParameterError
        A component is NaN or infinite, for which there is no code.
    """
    # Two reductions without a temporary; NaN goes through both of them.
    largest = max(float(flow.max()), -float(flow.min())) if flow.size else 0.0
    if not math.isfinite(largest):
        raise InvalidParameterError(
            f"flow must be finite to be quantised, got a largest component of {largest}; "
            "check the frames and the solver that made it"
        )
    return largest


def quantile_px(flow: Flow, per_mille: int, *, at_least_px: float = 0.0) -> float:
    """Return a quantile of the absolute components of a flow field, in px.

    It is one of them, without interpolation: the k-th smallest of n with k = ceil(per_mille n / 1000), so
    the least value that per_mille of 1,000 components do not exceed.

    Parameters
    ----------
    flow
        float32 (..., 2, H, W), px; finite.
    per_mille
        1 to 1,000.
    at_least_px
        Returned instead of a smaller quantile, which then costs a count alone.
    """
    magnitudes = np.abs(flow).ravel()
    greater = magnitudes.size * (1000 - per_mille) // 1000  # n - k
    candidates = magnitudes > np.float32(at_least_px)
    rank = int(np.count_nonzero(candidates)) - 1 - greater
    if rank < 0:
        return at_least_px
    return float(np.partition(magnitudes[candidates], rank)[rank])


class Quantized(NamedTuple):
    """The codes of a flow field, their scale, its largest component and the number clipped."""

    codes: NDArray[np.number]
    """Of the field's shape."""
    scale: float
    """px a code; a float32 number."""
    largest_px: float
    """Largest absolute component of the field, px."""
    clipped: int
    """Number of components beyond the largest code."""


class Quantizer(abc.ABC):
    """A rule that maps flow to codes and back: px = codes * scale + offset."""

    __slots__ = ()

    dtype: np.dtype[np.number]
    """Of the codes."""
    saturates: ClassVar[bool] = True
    """True if a component can be beyond the largest code."""

    @abc.abstractmethod
    def quantize(self, flow: Flow) -> Quantized:
        """Return the codes of one flow field, float32 (2, H, W), px.

        Raises
        ------
        InvalidParameterError
            A component is NaN or infinite.
        """

    @abc.abstractmethod
    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        """Return whether each of these is a scale that a field can have."""

    @property
    def fixed_scale(self) -> float | None:
        """The scale of every field, px a code, a float32 number; None where each field has its own."""
        return None

    @property
    def offset_px(self) -> float:
        """The flow of code 0, px."""
        return 0.0

    def dequantize(
        self, codes: NDArray[np.number], scale: float | NDArray[np.float32], *, out: Flow | None = None
    ) -> Flow:
        """Return the flow of codes, float32 px; `scale` is one number or broadcasts."""
        flow: Flow = np.multiply(codes, np.asarray(scale, np.float32), out=out, dtype=np.float32)
        return flow


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FieldScale(Quantizer):
    """One scale a field: 2^k units, with the least k >= 0 that clips nothing.

    Parameters
    ----------
    dtype
        A signed integer.
    unit_px
        The finest scale, px; a power of two, so that a product with a scale is exact.
    limit
        The largest code.
    """

    dtype: np.dtype[np.integer]
    unit_px: float
    limit: int
    saturates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_codes(self.dtype, self.limit)
        _check_unit(self.unit_px)

    def quantize(self, flow: Flow) -> Quantized:
        """Return the codes of one flow field; none is clipped."""
        largest = largest_px(flow)
        return _scaled_codes(flow, self.scale_px(largest), largest, dtype=self.dtype, limit=self.limit)

    def scale_px(self, largest_px: float) -> float:
        """Return the px per code of a field of this largest absolute component, u and v together.

        Raises
        ------
        InvalidParameterError
            `largest_px` is negative, infinite or NaN.
        """
        check_range("largest_px", largest_px, 0, math.inf, bounds="[)")
        steps = largest_px / (self.limit * self.unit_px)
        if steps <= 1:
            return self.unit_px
        mantissa, exponent = math.frexp(steps)
        # steps = mantissa * 2^exponent with mantissa in [.5, 1): an exact power of two needs one less.
        return math.ldexp(self.unit_px, exponent - (mantissa == 0.5))

    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        """Return whether all are powers of two from the unit on."""
        return bool(np.all((np.frexp(scales)[0] == 0.5) & (scales >= self.unit_px)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class QuantileScale(Quantizer):
    """One scale a field, from a quantile q of its absolute components: what is far beyond q saturates.

    scale = max(unit_px, min(largest / limit, q / quantile_code)), in float32. So `per_mille` of 1,000
    components, or more, have an error of half a scale at most: unit_px / 2, or q / (2 quantile_code) where
    that is more, whatever the others are.

    Parameters
    ----------
    dtype
        A signed integer.
    unit_px
        The finest scale, px; a power of two, so that fields of that scale decode exactly.
    limit
        The largest code.
    quantile_code
        The largest code of q, in [1, limit].
    per_mille
        Which quantile q is, 1 to 1,000; see `quantile_px`.
    """

    dtype: np.dtype[np.integer]
    unit_px: float
    limit: int
    quantile_code: int
    per_mille: int

    def __post_init__(self) -> None:
        _check_codes(self.dtype, self.limit)
        _check_unit(self.unit_px)
        check_range("quantile_code", self.quantile_code, 1, self.limit)
        check_range("per_mille", self.per_mille, 1, 1000)

    def quantize(self, flow: Flow) -> Quantized:
        """Return the codes of one flow field, and the number of components that saturated."""
        largest = largest_px(flow)
        return _scaled_codes(flow, self._scale(flow, largest), largest, dtype=self.dtype, limit=self.limit)

    def _scale(self, flow: Flow, largest: float) -> float:
        """Return the px per code of a field of this largest absolute component."""
        # Also without q, which can only make the scale finer.
        if largest <= self.limit * self.unit_px:
            return self.unit_px
        least = self.quantile_code * self.unit_px
        quantile = quantile_px(flow, self.per_mille, at_least_px=least)
        # The same two divisions on every engine, each rounded once to float32.
        scales = np.array([largest, quantile], np.float32) / np.array([self.limit, self.quantile_code], "f4")
        return max(self.unit_px, float(scales.min()))

    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        """Return whether all are finite and from the unit on."""
        return bool(np.all(np.isfinite(scales) & (scales >= self.unit_px)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FixedStep(Quantizer):
    """One step for all fields, saturating at +-`limit` steps.

    Parameters
    ----------
    dtype
        A signed integer.
    step_px
        The flow of code 1, px, > 0.
    limit
        The largest code.
    """

    dtype: np.dtype[np.integer]
    step_px: float
    limit: int

    def __post_init__(self) -> None:
        _check_codes(self.dtype, self.limit)
        check_positive("step_px", self.step_px)

    def quantize(self, flow: Flow) -> Quantized:
        """Return the codes of one flow field, and the number of components that saturated."""
        return _scaled_codes(flow, self.fixed_scale, largest_px(flow), dtype=self.dtype, limit=self.limit)

    @property
    def fixed_scale(self) -> float:
        """The step."""
        return float(np.float32(self.step_px))

    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        """Return whether all are the step."""
        return bool(np.all(scales == self.fixed_scale))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BoundedRange(Quantizer):
    """uint8 over [-bound, bound], as TSN and denseflow map it.

    Parameters
    ----------
    bound_px
        Half the range, px, > 0.
    """

    dtype: np.dtype[np.uint8] = dataclasses.field(default=np.dtype(np.uint8), init=False)
    bound_px: float

    def __post_init__(self) -> None:
        check_bound(self.bound_px)

    def quantize(self, flow: Flow) -> Quantized:
        """Return the codes of one flow field, and the number of components outside the range."""
        codes, clipped = quantize_u8(flow, bound_px=self.bound_px)
        return Quantized(codes=codes, scale=self.fixed_scale, largest_px=largest_px(flow), clipped=clipped)

    @property
    def fixed_scale(self) -> float:
        """The range's 255th part."""
        return float(np.float32(2 * self.bound_px / U8_LEVELS))

    def are_scales(self, scales: NDArray[np.float32]) -> bool:
        """Return whether all are the range's."""
        return bool(np.all(scales == self.fixed_scale))

    @property
    def offset_px(self) -> float:
        """The flow of code 0: minus the bound, px."""
        return -self.bound_px

    def dequantize(
        self, codes: NDArray[np.number], scale: float | NDArray[np.float32], *, out: Flow | None = None
    ) -> Flow:
        """Return the flow of codes, float32 px; the bound alone decides the scale."""
        flow = dequantize_u8(codes.astype(np.uint8, copy=False), bound_px=self.bound_px)
        if out is None:
            return flow
        out[...] = flow
        return out


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
        Number of components outside [-bound, bound].

    Notes
    -----
    Source: dense_flow, `convertFlowToImage`: 0 below -bound, 255 above bound, otherwise
    ``cvRound(255 * (v - L) / (H - L))`` in double precision, which rounds half to even.
    Zero is half way between two codes, 127.5, and so decodes to bound / 255 px.
    """
    check_bound(bound_px)
    largest = largest_px(flow)
    # dense_flow's own order of operations, in double: another order moves codes at the halves.
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


def check_bound(bound_px: object) -> None:
    """Raise InvalidParameterError unless `bound_px` is a finite number above zero."""
    ok = isinstance(bound_px, int | float) and 0 < bound_px < math.inf
    check_that("bound_px", bound_px, ok, "finite and > 0", remedy="TSN uses 20")


def _scaled_codes(
    flow: Flow, scale: float, largest: float, *, dtype: np.dtype[np.integer], limit: int
) -> Quantized:
    """Return clip(rint(flow * (1 / scale)), +-limit) in float32; `largest` is the field's `largest_px`."""
    per_px = np.float32(1) / np.float32(scale)
    with np.errstate(over="ignore"):  # infinity is beyond the largest code too
        scaled = flow * per_px
        # A product rounds monotonically: no other component is larger.
        saturates = bool(np.rint(np.float32(largest) * per_px) > limit)
    np.rint(scaled, out=scaled)
    clipped = 0
    if saturates:
        clipped = int(np.count_nonzero(np.abs(scaled) > limit))
        np.clip(scaled, -limit, limit, out=scaled)
    return Quantized(codes=scaled.astype(dtype), scale=scale, largest_px=largest, clipped=clipped)


def _check_unit(unit_px: float) -> None:
    """Raise InvalidParameterError unless the finest scale is a power of two."""
    power = unit_px > 0 and math.frexp(unit_px)[0] == 0.5
    check_that("unit_px", unit_px, power, "a power of two")


def _check_codes(dtype: np.dtype[np.integer], limit: int) -> None:
    """Raise InvalidParameterError unless codes up to `limit` are integers that float32 holds exactly."""
    check_that("dtype", dtype.name, dtype.kind == "i", "a signed integer")
    most = min(int(np.iinfo(dtype).max), _EXACT_IN_FLOAT32)
    check_range("limit", limit, 1, most, unit=f"for {dtype}")
