"""Tasks over worker processes: bounded, in a pool that survives its workers.

Each slot is a loky pool of one process. A worker that dies (a decoder's segfault, the
kernel's out-of-memory killer) therefore breaks its own slot only: its task is named, the
slot gets a new process, and no other task loses a frame. (One pool of N would fail all
tasks in flight and could not say which of them was at fault.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from joblib.externals.loky.process_executor import ProcessPoolExecutor

from flowkit import atomic
from flowkit.validate import check_integer

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Generic[Task, Result]):
    """The end of one task: a result, or the exit of its worker."""

    task: Task
    result: Result | None = None
    died: str = ""


class Blackboard:
    """Numbers that all processes of a run share: active workers, progress of each.

    Backed by a file that every process maps, because loky's workers are started afresh and
    inherit nothing. Each value has one writer; torn reads of an aligned 8-byte word do not
    occur on the machines we run on, and a stale value only delays a progress line.

    Parameters
    ----------
    path : Path
        The file; made by `create`, opened by the workers.
    """

    _HEADER, _SLOT = 8, 24  # active; then frames, fraction, pid for each worker

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, slots: int) -> Blackboard:
        """Make the file for `slots` workers in the system's folder for temporaries."""
        return cls(atomic.scratch_file("flowkit-run-", bytes(cls._HEADER + cls._SLOT * slots)))

    @property
    def active(self) -> int:
        """Number of workers that have a task now."""
        return int(struct.unpack_from("<q", self._memory, 0)[0])

    @active.setter
    def active(self, count: int) -> None:
        struct.pack_into("<q", self._memory, 0, count)

    def report(self, slot: int, frames: int, fraction: float) -> None:
        """Set the progress of a slot's task: frames done, and its fraction in [0, 1]."""
        struct.pack_into("<qd", self._memory, self._HEADER + self._SLOT * slot, frames, fraction)

    def progress(self, slot: int) -> tuple[int, float]:
        """Return the frames and the fraction that `report` last set for this slot."""
        frames, fraction = struct.unpack_from("<qd", self._memory, self._HEADER + self._SLOT * slot)
        return int(frames), float(fraction)

    def sign_in(self, slot: int, pid: int) -> None:
        """Set the process that serves this slot; 0 is none."""
        struct.pack_into("<q", self._memory, self._HEADER + self._SLOT * slot + 16, pid)

    def pid(self, slot: int) -> int:
        """Return the process that serves this slot, 0 while it has not started."""
        return int(struct.unpack_from("<q", self._memory, self._HEADER + self._SLOT * slot + 16)[0])

    def close(self) -> None:
        """Unmap and remove the file."""
        self._memory.close()
        atomic.discard(self.path)


class Executor(Protocol):
    """Runs tasks in `jobs` slots; `board` has the progress of each."""

    jobs: int
    board: Blackboard

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[Outcome[Task, Result], None, None]:
        """Yield an outcome per task, as they end."""


class InlineExecutor:
    """Run tasks one after the other in this process: for debugging, or within a cluster's job.

    Parameters
    ----------
    threads : int
        Cores that a task may use, >= 1.
    """

    jobs = 1

    def __init__(self, threads: int = 1) -> None:
        check_integer("threads", threads, 1)
        self.board = Blackboard.create(1)
        self.board.active = 1
        self._worker = Worker(slot=0, jobs=threads, board=self.board)

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[Outcome[Task, Result], None, None]:
        """Yield an outcome per task; a task that kills its process kills the run."""
        for task in tasks:
            result = function(task, self._worker)
            self.board.report(0, 0, 0.0)
            yield Outcome(task=task, result=result)

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()


class LocalExecutor:
    """Run tasks in `jobs` processes of this machine, each task in one of them.

    Parameters
    ----------
    jobs : int
        Worker processes, >= 1; also the most tasks in flight.

    Raises
    ------
    InvalidParameterError
        `jobs` is below 1.
    """

    def __init__(self, jobs: int) -> None:
        check_integer("jobs", jobs, 1)
        self.jobs = jobs
        self.board = Blackboard.create(jobs)
        self._slots = [_Slot(number, jobs, self.board) for number in range(jobs)]

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[Outcome[Task, Result], None, None]:
        """Yield an outcome per task, as they end; at most `jobs` are in flight.

        Parameters
        ----------
        function : callable
            Called as `function(task, worker)` in a worker process; picklable.
        tasks : iterable
            Drawn only when a worker is free.
        on_wait : callable
            Called about five times a second while nothing ends.
        """
        waiting = iter(tasks)
        in_flight: dict[Future[Result], tuple[_Slot, Task]] = {}
        free = list(reversed(self._slots))
        while True:
            for task in waiting if free else ():
                slot = free.pop()
                in_flight[slot.submit(function, task)] = (slot, task)
                self.board.active = len(in_flight)
                if not free:
                    break
            if not in_flight:
                return
            ended, _ = wait(in_flight, timeout=0.2, return_when=FIRST_COMPLETED)
            if on_wait:
                on_wait()
            for future in ended:
                slot, task = in_flight.pop(future)
                self.board.active = len(in_flight)
                outcome = slot.settle(future, task)
                free.append(slot)
                yield outcome

    def close(self) -> None:
        """Kill the workers at once; they are gone when this returns."""
        for slot in self._slots:
            slot.kill()
        for slot in self._slots:
            slot.forget()
        self.board.close()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """The process that runs a task: its slot, the slots in all, the board of the run."""

    slot: int
    jobs: int
    board: Blackboard

    def threads(self) -> int:
        """Return the number of cores that this worker's task may use now.

        The cores of idle workers go to the busy ones, so that one long video, or the last
        one of many, has them all.
        """
        active = max(1, self.board.active)
        return max(1, self.jobs // active + (1 if self.slot < self.jobs % active else 0))

    def report(self, frames: int, fraction: float) -> None:
        """Report the task's progress to the coordinator: frames done, fraction in [0, 1]."""
        self.board.report(self.slot, frames, fraction)


_worker: Worker | None = None


class _Slot:
    """One worker process, made when it is first needed and again after it died."""

    def __init__(self, number: int, jobs: int, board: Blackboard) -> None:
        self._number = number
        self._jobs = jobs
        self._board = board
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[[Task, Worker], Result], task: Task) -> Future[Result]:
        if self._pool is None:
            self._board.sign_in(self._number, 0)
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                initializer=_start_worker,
                initargs=(self._number, self._jobs, self._board.path, os.getpid()),
            )
        self._board.report(self._number, 0, 0.0)
        future: Future[Result] = self._pool.submit(_call, function, task)
        return future

    def settle(self, future: Future[Result], task: Task) -> Outcome[Task, Result]:
        self._board.report(self._number, 0, 0.0)
        try:
            return Outcome(task=task, result=future.result())
        except BrokenProcessPool as error:
            self.kill()
            self.forget()
            return Outcome(task=task, died=_cause_of_death(error))

    def kill(self) -> None:
        """Send the worker SIGKILL; `forget` waits for its end."""
        pid = self._board.pid(self._number) if self._pool is not None else 0
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def forget(self) -> None:
        """Wait for the killed worker's end; the slot can be used again afterwards."""
        pool, self._pool = self._pool, None
        if pool is not None:
            # A worker that has not signed in yet must be found, and killed, by loky.
            pool.shutdown(wait=True, kill_workers=not self._board.pid(self._number))


def _cause_of_death(error: BrokenProcessPool) -> str:
    """Return the part of loky's message that names the exit: `SIGSEGV(-11)`."""
    text = str(error)
    _, brace, rest = text.partition("{")
    exit_code = rest.partition("}")[0] if brace else ""
    hint = " (perhaps out of memory)" if "SIGKILL" in exit_code else ""
    return f"the worker process ended with {exit_code or text}{hint}"


def _call(function: Callable[[Task, Worker], Result], task: Task) -> Result:
    assert _worker is not None, "the pool's initializer has not run"
    return function(task, _worker)


def _start_worker(slot: int, jobs: int, board: Path, parent: int) -> None:
    global _worker
    # Ctrl-C reaches the whole process group; the coordinator ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = Worker(slot=slot, jobs=jobs, board=Blackboard(board))
    _worker.board.sign_in(slot, os.getpid())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after its coordinator was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
