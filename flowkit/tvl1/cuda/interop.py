"""Frames that are already on the device: used without a copy, on their owner's stream.

cupy arrays, torch CUDA tensors, and others with DLPack or the CUDA array interface.
torch is never imported: a tensor's owner has done that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from flowkit.tvl1.cuda.device import DeviceArray, device_of_pointer
from flowkit.validate import check_array

_DLPACK_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged of dlpack.h


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adopted:
    """A device array of the caller.

    Attributes
    ----------
    array : cupy.ndarray
        The same memory.
    stream : cupy stream, or None
        The owner's; None: cupy's current one.
    give_back : callable
        Turns a cupy array into one of the owner's kind, without a copy.
    """

    array: DeviceArray
    stream: contextlib.AbstractContextManager[object] | None
    give_back: Callable[[DeviceArray], object]


@dataclasses.dataclass(frozen=True, slots=True)
class _StreamPointer:
    """A CUDA stream with the CUDA stream protocol, which older torch streams lack."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def _foreign_stream(cupy: Any, pointer: int) -> Any:
    # cupy 14 replaces ExternalStream, and warns of it.
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_StreamPointer(pointer))
    return cupy.cuda.ExternalStream(pointer)


def device_index(frames: object) -> int | None:
    """Return the index of the GPU that holds `frames`, or None if they are on the host."""
    where = getattr(frames, "__dlpack_device__", None)
    if where is not None:
        kind, index = where()
        return int(index) if kind in _DLPACK_CUDA else None
    interface = getattr(frames, "__cuda_array_interface__", None)
    return None if interface is None else device_of_pointer(int(interface["data"][0]))


def adopt(cupy: Any, frames: Any) -> Adopted:
    """Return the caller's device array as a cupy array, and the way back.

    Raises
    ------
    InvalidParameterError
        Not (n, H, W), or neither uint8 nor floating. Values are not checked: that would make
        the host wait; those outside [0, 255] or not finite give flow without a meaning.
    """
    if type(frames).__module__.split(".")[0] == "torch":
        torch = sys.modules["torch"]
        stream = _foreign_stream(cupy, torch.cuda.current_stream(frames.device).cuda_stream)
        with stream:
            adopted = Adopted(
                array=cupy.from_dlpack(frames.detach()), stream=stream, give_back=torch.from_dlpack
            )
    elif isinstance(frames, cupy.ndarray):
        adopted = Adopted(array=frames, stream=None, give_back=_unchanged)
    else:
        adopted = Adopted(array=cupy.asarray(frames), stream=None, give_back=_unchanged)
    check_array(
        "frames",
        adopted.array,
        ("n", "H", "W"),
        dtype=(np.uint8, np.floating),
        allow_empty=False,
        remedy="turn colour into grey, and other numbers into float32 in [0, 255]",
    )
    return adopted


def _unchanged(array: DeviceArray) -> DeviceArray:
    return array


def as_grey(cupy: Any, array: DeviceArray) -> DeviceArray:
    """Return contiguous uint8 or float32 frames: the same memory wherever it is so already."""
    return cupy.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)


def on_stream(adopted: Adopted) -> contextlib.AbstractContextManager[object]:
    """Return a context in which the owner's stream is the current one."""
    return adopted.stream or contextlib.nullcontext()
