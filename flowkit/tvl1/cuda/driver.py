"""Calls of the CUDA driver past cupy, by ctypes: whether it comes up, and how many clusters fit a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import sys

from flowkit.errors import BackendUnavailableError

START_SECONDS = 30.0
"""In which a driver comes up on the slowest machine."""

CHECKED_VARIABLE = "FLOWKIT_DRIVER_CHECKED"
"""Set for processes that a parent watches: there the driver is not tried before."""

_TRY = "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)"


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


@functools.cache
def check_driver() -> None:
    """Try in another process whether the driver comes up: a call that hangs could not be left here.

    A driver that is missing, or comes up with an error, is left to the call that needs it.

    Raises
    ------
    BackendUnavailableError
        It does not answer in START_SECONDS.
    """
    if os.environ.get(CHECKED_VARIABLE):
        return
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TRY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        # A process that the driver holds does not end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        raise BackendUnavailableError(
            f"cuda: the driver has not answered for {START_SECONDS:g} s; check that nvidia-smi runs"
        ) from None


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
        raise BackendUnavailableError(
            f"cuda: the driver does not know clusters: {error}; update it, or use method 'tile'"
        ) from error
    config = _LaunchConfig(
        gridDimX=blocks, gridDimY=1, gridDimZ=1, blockDimX=threads, blockDimY=1, blockDimZ=1
    )
    config.sharedMemBytes = shared_bytes
    clusters = ctypes.c_int()
    # The cluster's size is the kernel's own: no attribute repeats it.
    status = call(ctypes.byref(clusters), ctypes.c_void_p(function), ctypes.byref(config))
    return int(status), clusters.value
