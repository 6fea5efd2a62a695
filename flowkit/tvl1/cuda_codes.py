"""Quantisation on the device: codes come back instead of floats, a quarter of the bytes or half.

The codes are those of flowkit.quantize, bit for bit.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import check_bound, i8_scale
from flowkit.tvl1.cuda_device import THREADS, CudaDevice, DeviceArray, KernelFile, blocks

Code = Literal["i8", "i16", "u8"]

CODE_DTYPES = {"i8": np.int8, "i16": np.int16, "u8": np.uint8}

_FILE = KernelFile(source="quantize.cu")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowCodes:
    """The codes of many flows, and what belongs to each.

    Attributes
    ----------
    codes : int8, int16 or uint8 array, (m, 2, H, W)
        As `flowkit.quantize` makes them; u, then v.
    largest_px : float32 array, (m,)
        Largest absolute component of each flow, px.
    clipped : int32 array, (m,)
        Components of each flow that the code cannot hold; never any with `i8`.
    """

    codes: NDArray[np.int8] | NDArray[np.int16] | NDArray[np.uint8]
    largest_px: NDArray[np.float32]
    clipped: NDArray[np.int32]

    @property
    def i8_scales(self) -> NDArray[np.float32]:
        """The scale of each flow's `i8` codes: px = codes * scale."""
        return np.array([i8_scale(float(px)) for px in self.largest_px], np.float32)


def check_code(code: str, bound_px: float | None) -> None:
    """Raise InvalidParameterError unless there is such a code, with a bound where it needs one."""
    if code not in CODE_DTYPES:
        raise InvalidParameterError(f"code must be one of {tuple(CODE_DTYPES)}, got {code!r}")
    if code == "u8":
        check_bound(bound_px)
    elif bound_px is not None:
        raise InvalidParameterError(f"bound_px is for code 'u8' alone, got {bound_px} with {code!r}")


def enqueue_codes(
    device: CudaDevice, flow: DeviceArray, code: Code, bound_px: float | None
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Enqueue the quantisation of flows on the current stream.

    Parameters
    ----------
    device : CudaDevice
    flow : float32 device array, (m, 2, H, W)
        px.
    code : {"i8", "i16", "u8"}
    bound_px : float or None
        Half the range of `u8`, px.

    Returns
    -------
    codes : device array, (m, 2, H, W)
    largest : int32 device array, (m,)
        The bits of largest_px.
    clipped : int32 device array, (m,)
    """
    pairs, values = len(flow), int(np.prod(flow.shape[1:]))
    largest, clipped = device.zeros((pairs,), np.int32), device.zeros((pairs,), np.int32)
    codes = device.empty(flow.shape, CODE_DTYPES[code])
    grid, n = (blocks(values), pairs), np.int32(values)
    some = (min(64, grid[0]), pairs)
    device.launch((_FILE, "flowkit_largest"), some, THREADS, (flow, largest, n))
    if code == "i8":
        device.launch((_FILE, "flowkit_quantize_i8"), grid, THREADS, (flow, largest, codes, n))
    elif code == "i16":
        device.launch((_FILE, "flowkit_quantize_i16"), grid, THREADS, (flow, codes, clipped, n))
    else:
        bound = np.float64(bound_px)
        device.launch((_FILE, "flowkit_quantize_u8"), grid, THREADS, (flow, codes, clipped, n, bound))
    return codes, largest, clipped


def checked_largest(bits: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return largest_px from its bits.

    Raises
    ------
    InvalidParameterError
        A flow is not finite: no code can stand for it.
    """
    largest = bits.view(np.float32)
    if not np.isfinite(largest).all():
        raise InvalidParameterError(
            f"flow must be finite to be quantised, got a largest component of {largest.max()} in pair "
            f"{int(np.argmin(np.isfinite(largest)))}; check the frames and the solver that made it"
        )
    return largest
