"""The one call of the CUDA driver that cupy does not wrap, by ctypes: how many clusters fit a GPU."""

from __future__ import annotations

import ctypes
import functools

from flowkit.errors import BackendUnavailableError


class _LaunchConfig(ctypes.Structure):
    """CUlaunchConfig of cuda.h."""

    _fields_ = (
        *((f"{kind}Dim{axis}", ctypes.c_uint) for kind in ("grid", "block") for axis in "XYZ"),
        ("sharedMemBytes", ctypes.c_uint),
        ("hStream", ctypes.c_void_p),
        ("attrs", ctypes.c_void_p),
        ("numAttrs", ctypes.c_uint),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def max_active_clusters(function: int, *, blocks: int, threads: int, shared_bytes: int) -> tuple[int, int]:
    """Return the driver's status and the number of clusters that can be resident on the current device.

    Parameters
    ----------
    function : int
        Handle of a kernel that declares its cluster, `__cluster_dims__`.
    blocks : int
        Of one cluster.
    threads, shared_bytes : int
        Threads and dynamic shared memory of a block.

    Returns
    -------
    status : int
        0, or the driver's error.
    clusters : int
        0 where not even one fits: a launch would be refused.

    Raises
    ------
    BackendUnavailableError
        The driver is missing, or older than CUDA 11.8 and knows no clusters.
    """
    try:
        call = _library().cuOccupancyMaxActiveClusters
    except (OSError, AttributeError) as error:
        raise BackendUnavailableError(f"cuda: the driver does not know clusters: {error}") from error
    config = _LaunchConfig(
        gridDimX=blocks, gridDimY=1, gridDimZ=1, blockDimX=threads, blockDimY=1, blockDimZ=1
    )
    config.sharedMemBytes = shared_bytes
    clusters = ctypes.c_int()
    # The cluster's size is the kernel's own: no attribute repeats it.
    status = call(ctypes.byref(clusters), ctypes.c_void_p(function), ctypes.byref(config))
    return int(status), clusters.value
