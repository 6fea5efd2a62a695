"""Quantisation on the device: codes are copied instead of floats, a quarter of the bytes or half.

The codes are those of flowkit.quantize, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import BoundedRange, FieldScale, FixedStep, Quantizer
from flowkit.tvl1.cuda.device import THREADS, CudaDevice, DeviceArray, KernelFile, blocks

_SOURCE = "quantize.cu"
_FILE = KernelFile(source=_SOURCE)
_MOST_CODE_BYTES = 4
_RULES = (FieldScale, FixedStep, BoundedRange)


def has_kernel(quantizer: Quantizer) -> bool:
    """Return whether `enqueue_codes` takes a quantiser."""
    return type(quantizer) in _RULES and quantizer.dtype.itemsize <= _MOST_CODE_BYTES


def enqueue_codes(
    device: CudaDevice, flow: DeviceArray, quantizer: Quantizer
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Enqueue the quantisation of flows on the current stream.

    Parameters
    ----------
    device : CudaDevice
    flow : float32 device array, (m, 2, H, W)
        px.
    quantizer : Quantizer
        One that `has_kernel`.

    Returns
    -------
    codes : device array, (m, 2, H, W)
    largest : int32 device array, (m,)
        The bits of largest_px.
    clipped : int32 device array, (m,)
    """
    pairs, values = len(flow), int(np.prod(flow.shape[1:]))
    largest, clipped = device.zeros((pairs,), np.int32), device.zeros((pairs,), np.int32)
    codes = device.empty(flow.shape, quantizer.dtype)
    grid, n = (blocks(values), pairs), np.int32(values)
    some = (min(64, grid[0]), pairs)
    device.launch((_FILE, "flowkit_largest"), some, THREADS, (flow, largest, n))
    file = KernelFile.of(_SOURCE, {"FLOWKIT_CODE_BYTES": quantizer.dtype.itemsize})
    name, between, after = _kernel(quantizer, largest, codes, clipped)
    device.launch((file, name), grid, THREADS, (flow, *between, n, *after))
    return codes, largest, clipped


def _kernel(
    quantizer: Quantizer, largest: DeviceArray, codes: DeviceArray, clipped: DeviceArray
) -> tuple[str, tuple[DeviceArray, DeviceArray], tuple[object, ...]]:
    """Return a quantiser's kernel, its arrays after the flow, and its own parameters, of its types."""
    match quantizer:
        case FieldScale(unit_px=unit_px, limit=limit):
            return "flowkit_field_scale", (largest, codes), (np.float32(unit_px), np.float32(limit))
        case FixedStep(step_px=step_px, limit=limit):
            return "flowkit_fixed_step", (codes, clipped), (np.float32(1.0 / step_px), np.float32(limit))
        case BoundedRange(bound_px=bound_px):
            return "flowkit_bounded_range", (codes, clipped), (np.float64(bound_px),)
    raise InvalidParameterError(f"Invalid quantizer ({quantizer!r}). Supported values are {_RULES}")


def checked_largest(bits: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return largest_px from its bits.

    Raises
    ------
    InvalidParameterError
        A flow is not finite, for which there is no code.
    """
    largest = bits.view(np.float32)
    if not np.isfinite(largest).all():
        raise InvalidParameterError(
            f"flow must be finite to be quantised, got a largest component of {largest.max()} in pair "
            f"{int(np.argmin(np.isfinite(largest)))}; check the frames and the solver that made it"
        )
    return largest
