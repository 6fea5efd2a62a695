"""Quantisation on the device: codes come back instead of floats, a quarter of the bytes or half.

The codes are those of flowkit.quantize, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.tvl1.codes import CODE_DTYPES, Code
from flowkit.tvl1.cuda.device import THREADS, CudaDevice, DeviceArray, KernelFile, blocks

_FILE = KernelFile(source="quantize.cu")


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
