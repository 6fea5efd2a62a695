"""Quantisation on the device: codes are copied instead of floats, a quarter of the bytes or half.

The codes are those of flowkit.quantize, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import BoundedRange, FieldScale, FixedStep, QuantileScale, Quantizer
from flowkit.tvl1.cuda.device import THREADS, CudaDevice, DeviceArray, KernelFile, blocks

_SOURCE = "quantize.cu"
_FILE = KernelFile(source=_SOURCE)
_MOST_CODE_BYTES = 4
_RULES = (QuantileScale, FieldScale, FixedStep, BoundedRange)
_QUANTILE_THREADS = 1024
"""One block reads a whole pair three times: as many at once as there can be."""


def has_kernel(quantizer: Quantizer) -> bool:
    """Return whether `enqueue_codes` takes a quantiser."""
    return type(quantizer) in _RULES and quantizer.dtype.itemsize <= _MOST_CODE_BYTES


def enqueue_codes(
    device: CudaDevice, flow: DeviceArray, quantizer: Quantizer
) -> tuple[DeviceArray, DeviceArray, DeviceArray, DeviceArray]:
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
    scales : float32 device array, (m,)
    largest : int32 device array, (m,)
        The bits of largest_px.
    clipped : int32 device array, (m,)
    """
    pairs, values = len(flow), int(np.prod(flow.shape[1:]))
    largest, clipped = device.zeros((pairs,), np.int32), device.zeros((pairs,), np.int32)
    codes = device.empty(flow.shape, quantizer.dtype)
    grid, n = (blocks(values), pairs), np.int32(values)
    device.launch((_FILE, "flowkit_largest"), (min(64, grid[0]), pairs), THREADS, (flow, largest, n))
    scales = _scales(device, quantizer, flow, largest)
    match quantizer:
        case BoundedRange(bound_px=bound_px):
            args: tuple[object, ...] = (flow, codes, clipped, n, np.float64(bound_px))
            device.launch((_FILE, "flowkit_bounded_range"), grid, THREADS, args)
        case QuantileScale(limit=limit) | FieldScale(limit=limit) | FixedStep(limit=limit):
            file = KernelFile.of(_SOURCE, {"FLOWKIT_CODE_BYTES": quantizer.dtype.itemsize})
            args = (flow, scales, codes, clipped, n, np.float32(limit))
            device.launch((file, "flowkit_scaled_codes"), grid, THREADS, args)
        case _:
            raise InvalidParameterError(f"Invalid quantizer ({quantizer!r}). Supported values are {_RULES}")
    return codes, scales, largest, clipped


def _scales(device: CudaDevice, quantizer: Quantizer, flow: DeviceArray, largest: DeviceArray) -> DeviceArray:
    """Enqueue what gives each pair its scale, float32 (m,)."""
    pairs, values = len(flow), int(np.prod(flow.shape[1:]))
    if quantizer.fixed_scale is not None:
        return device.upload(np.full(pairs, quantizer.fixed_scale, np.float32))
    scales = device.empty((pairs,), np.float32)
    match quantizer:
        case FieldScale(unit_px=unit_px, limit=limit):
            args = (largest, scales, np.int32(pairs), np.float32(unit_px), np.float32(limit))
            device.launch((_FILE, "flowkit_field_scales"), (blocks(pairs),), THREADS, args)
        case QuantileScale(unit_px=unit_px, limit=limit, quantile_code=code, per_mille=per_mille):
            counts = np.int32(values), np.int32(values * (1000 - per_mille) // 1000)
            rule = np.float32(unit_px), np.float32(limit), np.float32(code)
            kernel = _FILE, "flowkit_quantile_scales"
            device.launch(kernel, (pairs,), _QUANTILE_THREADS, (flow, largest, scales, *counts, *rule))
    return scales


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
