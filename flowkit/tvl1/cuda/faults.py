"""The boundary to the driver: a status that is an error, or a wait without an end, becomes a GpuError.

A kernel's fault reaches the host late, as the status of some later call, and cupy does not look at the
status of an event's query. Here each status is looked at, no wait is without a deadline, and the message
names the GPU, the status, and the kernel and level that were launched last.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from flowkit.errors import BackendError, GpuError, GpuLostError, GpuMemoryError
from flowkit.validate import check_that

PATIENCE_SECONDS = 4.0
"""Longest wait for the GPU beyond the time that its work may take; $FLOWKIT_GPU_PATIENCE replaces it."""

_POLL_SECONDS = 50e-6
# Counted of one pause at most: a process that was stopped meanwhile has not waited for the GPU.
_LONGEST_PAUSE_SECONDS = 0.5

# cudaError_t. Errors of the context, which every later call of the process returns again: a driver that
# shuts down, ECC, NVLink, exceptions of kernels, a device that fell off. Any other ends one call.
_DONE, _NOT_READY, _NO_MEMORY = 0, 600, 2
_STICKY = frozenset({4, 46, 101, 201, 214, 219, 220, 226, 700, 702, 709, 710, *range(713, 720), 721, 999})


class Event(Protocol):
    """A CUDA event of cupy."""

    @property
    def ptr(self) -> int:
        """Its handle."""


class _Thread(threading.local):
    """The last launch of a thread, and its depth inside `boundary`."""

    kernel = ""
    depth = 0


class _Seen:
    """A thread inside `boundary`: the time of its last sign of life, its last launch, its silence so far."""

    __slots__ = ("at", "kernel", "silent")

    def __init__(self, at: float, kernel: str) -> None:
        self.at, self.kernel, self.silent = at, kernel, 0.0


class DeviceFaults:
    """The faults of one GPU in this process.

    Parameters
    ----------
    cupy : module
    gpu : str
        The GPU in messages, such as "GPU 0 (NVIDIA H200)".

    Attributes
    ----------
    fault : GpuLostError or None
        The error that ended the GPU for this process. Every later call raises it again.
    """

    def __init__(self, cupy: Any, gpu: str) -> None:
        self.fault: GpuLostError | None = None
        self._cupy, self._gpu = cupy, gpu
        self._statuses = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._thread = _Thread()
        self._seen: dict[int, _Seen] = {}
        # The work that each thread has on the device: a batch may have to wait for all others.
        self._work: dict[int, float] = {}
        self._looked = time.monotonic()

    @contextlib.contextmanager
    def boundary(self, work_seconds: float = 0.0) -> Iterator[None]:
        """Turn the driver's errors in a `with` block into flowkit's.

        Parameters
        ----------
        work_seconds : float
            Longest time that the device may be at work between two things that the host sees of it.

        Raises
        ------
        GpuError
            The GPU failed; a GpuLostError, also by a fault before, if this process cannot use it any more.
        GpuMemoryError
            Memory of the device or pinned memory ran out.
        """
        self.check()
        thread, me = self._thread, threading.get_ident()
        outside = thread.kernel, self._work.get(me, 0.0)
        thread.kernel, self._work[me] = "", max(work_seconds, outside[1])
        thread.depth += 1
        self.sign_of_life()
        try:
            yield
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise self._no_memory(error) from error
        except self._statuses as error:
            raise self._of_status(error) from error
        finally:
            thread.kernel, self._work[me] = outside
            thread.depth -= 1
            if not thread.depth:
                self._seen.pop(me, None)
                self._work.pop(me, None)

    def check(self) -> None:
        """Raise the error that ended the GPU, if one did."""
        if self.fault is not None:
            raise GpuLostError(str(self.fault)) from self.fault

    def launching(self, kernel: str, level: int | None) -> None:
        """Note the launch that comes next in this thread, for the messages of what follows."""
        self._thread.kernel = kernel if level is None else f"{kernel} of level {level}"
        self.sign_of_life()

    def sign_of_life(self) -> None:
        """Note that this thread's calls into the driver have returned."""
        if self._thread.depth:
            self._seen[threading.get_ident()] = _Seen(time.monotonic(), self._thread.kernel)

    @contextlib.contextmanager
    def without_deadline(self) -> Iterator[None]:
        """Do work of the host, such as compiling, that is no sign of a fault however long it takes."""
        self._seen.pop(threading.get_ident(), None)
        try:
            yield
        finally:
            self.sign_of_life()

    def check_status(self, status: int) -> None:
        """Raise the error of a status that came past cupy.

        Raises
        ------
        GpuError
            It is not 0.
        """
        if status != _DONE:
            raise self._of_status(self._cupy.cuda.runtime.CUDARuntimeError(status))

    def happened(self, event: Event) -> bool:
        """Return whether all work before an event is done.

        Raises
        ------
        GpuError
            The GPU failed.
        """
        self.check()
        status = self._cupy.cuda.runtime.eventQuery(event.ptr)
        if status != _NOT_READY:
            self.check_status(status)
        return bool(status == _DONE)

    def wait(self, event: Event, *, for_others: bool = False) -> None:
        """Wait for an event, with the core free for other threads.

        Parameters
        ----------
        event : Event
        for_others : bool
            Before the event is work that the frames' owner enqueued, which may take any time.

        Raises
        ------
        GpuError
            The GPU failed, or the event does not happen in time.
        """
        waited, before = 0.0, time.monotonic()
        while not self.happened(event):
            self.sign_of_life()
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            waited += min(now - before, _LONGEST_PAUSE_SECONDS)
            before = now
            if waited > self._patience() and not for_others and not self.happened(event):
                raise self._ended(f"no end of its work in {waited:.1f} s", self._thread.kernel)

    def stuck(self) -> GpuLostError | None:
        """Return the error that ended the GPU; a call into the driver that does not return ends it too.

        Asked for again and again: the silence of a thread is counted from look to look, and a pause of
        the whole process counts as one short one.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * _LONGEST_PAUSE_SECONDS), now
        for seen in list(self._seen.values()):
            seen.silent += min(passed, now - seen.at)
            if self.fault is None and seen.silent > self._patience():
                self._ended(f"a call into the driver has not returned for {seen.silent:.1f} s", seen.kernel)
        return self.fault

    def _patience(self) -> float:
        """Return how long the GPU may take with all that it has to do now."""
        return patience_seconds() + sum(list(self._work.values()))

    def _of_status(self, error: Any) -> BackendError:
        """Return flowkit's error for one of cupy's, and note it if it ends the GPU."""
        status = getattr(error, "status", None)
        if self.fault is None and status == _NO_MEMORY:
            return self._no_memory(error)
        if self.fault is None and status not in _STICKY:
            what = self._thread.kernel or "a call"
            return GpuError(f"{self._gpu} refused {what}: {error}; run `flowkit doctor --gpu`")
        return self._ended(str(error), self._thread.kernel)

    def _no_memory(self, error: BaseException) -> GpuMemoryError:
        return GpuMemoryError(
            f"{self._gpu}: memory ran out ({error}); free some, allow less, or use backend 'cpu'"
        )

    def _ended(self, what: str, launched: str) -> GpuLostError:
        """Note the error that ends the GPU for this process, the first one, and return it."""
        if self.fault is None:
            after = f", after the launch of {launched}" if launched else ""
            self.fault = GpuLostError(
                f"{self._gpu} failed: {what}{after}; this process cannot use it any more: "
                "run `flowkit doctor --gpu`, and nvidia-smi"
            )
        return self.fault


def patience_seconds() -> float:
    """Return $FLOWKIT_GPU_PATIENCE, or PATIENCE_SECONDS.

    Raises
    ------
    InvalidParameterError
        The variable is no number above 0.
    """
    text = os.environ.get("FLOWKIT_GPU_PATIENCE", "")
    if not text:
        return PATIENCE_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    check_that("FLOWKIT_GPU_PATIENCE", text, seconds > 0, "a number of seconds above 0")
    return seconds
