"""The part of a dask cluster's tasks that runs in its workers."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flowkit._version import __version__
from flowkit.errors import GpuError
from flowkit.workers.board import Worker

REPORT_S = 0.5
"""Between two reports of a task."""

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


def in_worker(
    function: Callable[[Task, Worker], Result],
    task: Task,
    *,
    number: int,
    threads: int,
    topic: str,
    folder: str,
) -> Result:
    """Do a task in `folder`, where its relative paths begin, with so many cores.

    A GPU that fails ends the process, as it would fail every task that comes: the task is another worker's,
    and a nanny starts this one again.
    """
    with contextlib.suppress(OSError):  # relative paths begin there; with absolute ones it need not be here
        os.chdir(folder)
    try:
        return function(task, Worker(slot=number, jobs=threads, board=_RemoteBoard(topic), owns_gpu=True))
    except GpuError as error:
        print(f"flowkit: {error}; this worker ends", file=sys.stderr, flush=True)
        os._exit(1)
