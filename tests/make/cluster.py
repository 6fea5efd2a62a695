"""Real dask schedulers and workers on the loopback, each a process that a test can kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from flowkit.workers.board import Worker

ROOT = Path(__file__).resolve().parent.parent.parent
QUIET = {"DASK_LOGGING__DISTRIBUTED": "critical", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


class Cluster:
    """A scheduler and its workers, of one thread each.

    Parameters
    ----------
    folder
        Of the scheduler file, which is the address for a client.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler = self._started(
            "distributed.cli.dask_scheduler",
            *("--scheduler-file", self.file, "--port", "0", "--host", "127.0.0.1", "--no-dashboard"),
        )
        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.workers: list[subprocess.Popen[bytes]] = []

    def add(
        self, name: str, *, nanny: bool = False, preload: str = "", gpu: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a worker; `preload` is Python that it runs first, `gpu` gives it the resource GPU."""
        words: Sequence[object] = (
            *("--scheduler-file", self.file, "--name", name, "--nthreads", "1", "--no-dashboard"),
            *("--host", "127.0.0.1", "--memory-limit", "0", "--nanny" if nanny else "--no-nanny"),
            *(("--preload", preload) if preload else ()),
            *(("--resources", "GPU=1") if gpu else ()),
        )
        worker = self._started("distributed.cli.dask_worker", *words)
        self.workers.append(worker)
        return worker

    def _started(self, module: str, *words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, words)],
            env={**os.environ, **QUIET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a process and those that it started, at once."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            self.kill(process)


def squared(task: int, worker: Worker) -> int:
    """Report half way, and take a while."""
    worker.report(task, 0.5)
    time.sleep(0.2)
    return task * task


def marked_and_slow(task: tuple[Path, int], worker: Worker) -> int:
    """Leave this process's number where a test can read it, and take a while the first time."""
    folder, number = task
    mark = folder / f"{number}-{os.getpid()}"
    first = not list(folder.glob(f"{number}-*"))
    mark.touch()
    time.sleep(30 if first and number == 0 else 0.1)
    return number


def deadly(task: int, worker: Worker) -> int:
    """Kill the worker at task 1."""
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def hanging(task: int, worker: Worker) -> int:
    """Never end task 1."""
    time.sleep(3600 if task == 1 else 0.05)
    return task


def failing(task: int, worker: Worker) -> int:
    """Raise an error of its own."""
    raise ValueError(f"task {task}")
