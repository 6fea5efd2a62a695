"""The part of a dask cluster's tasks that runs in its workers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flowkit._version import __version__
from flowkit.workers.board import Worker

REPORT_S = 0.5
"""Between two reports of a task."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def version() -> str:
    """Return the version of flowkit."""
    return __version__


def missing(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not there."""
    return [path for path in paths if not os.path.exists(path)]


class _RemoteBoard:
    """The board of a task on a cluster: progress goes to the one that asked, twice a second at most."""

    active = 1

    def __init__(self, topic: str) -> None:
        self._topic, self._sent = topic, 0.0

    def report(self, slot: int, frames: int, fraction: float) -> None:
        """Send the progress of a slot's task."""
        self._send(slot, frames, fraction)

    def beat(self, slot: int) -> None:
        """Send a sign that a slot's task goes on."""
        self._send(slot, None, None)

    def _send(self, *values: object) -> None:
        from distributed import get_worker

        now = time.monotonic()
        if now - self._sent >= REPORT_S:
            self._sent = now
            get_worker().log_event(self._topic, values)


@functools.cache
def _keep_freed_memory() -> None:
    """Let this process keep the memory of a freed image for the next one, as it does by default.

    Dask sets glibc's trim threshold to 64 KiB, which also turns off that its other thresholds grow: the
    memory of every image goes back to the system, which has to clear it again.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # a C library without it
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_TRIM_THRESHOLD, 1 << 28), (_M_MMAP_THRESHOLD, 1 << 25)):
            mallopt(parameter, value)


def in_worker(
    function: Callable[[Task, Worker], Result],
    task: Task,
    *,
    number: int,
    threads: int,
    topic: str,
    folder: str,
) -> Result:
    """Do a task in `folder`, where its relative paths begin, with so many cores."""
    _keep_freed_memory()
    with contextlib.suppress(OSError):  # relative paths begin there; with absolute ones it need not be here
        os.chdir(folder)
    return function(task, Worker(slot=number, jobs=threads, board=_RemoteBoard(topic), owns_gpu=True))
