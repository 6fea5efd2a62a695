"""Tasks over worker processes: bounded, in a pool that survives its workers.

Each slot is a loky pool of one process. A worker that dies (a decoder's segfault, the
kernel's out-of-memory killer) therefore breaks its own slot only: its task is named, the
slot gets a new process, and no other task loses a frame. (One pool of N would fail all
tasks in flight and could not say which of them was at fault.)

Where the system has no room for another process, the run goes on with those that it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from joblib.externals.loky.process_executor import ProcessPoolExecutor

from flowkit.errors import NO_THREAD, SystemLimitError
from flowkit.validate import check_integer
from flowkit.workers.board import Blackboard as Blackboard
from flowkit.workers.board import Standstill
from flowkit.workers.board import Worker as Worker

# Each worker would start a thread a core for matrix products that it does not compute.
_THREADS_OF_LIBRARIES = ("OPENBLAS_NUM_THREADS",)

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Generic[Task, Result]):
    """The end of one task.

    Attributes
    ----------
    task
        As it was given.
    result
        Of the function; None where one of the others says why there is none.
    died : str
        The exit of its worker.
    limit : str
        The limit of the system that let no worker work on it.
    stalled : float
        Seconds without progress after which its worker was ended.
    """

    task: Task
    result: Result | None = None
    died: str = ""
    limit: str = ""
    stalled: float = 0.0


class Executor(Protocol):
    """Runs tasks in `jobs` slots; `board` has the progress of each; `elsewhere`: on other machines."""

    board: Blackboard

    @property
    def elsewhere(self) -> bool:
        """True if its workers do not see this machine's sockets and devices."""

    @property
    def jobs(self) -> int:
        """Number of slots."""

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
        patience: Callable[[Task], float] | None = None,
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
    elsewhere = False

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
        patience: Callable[[Task], float] | None = None,
    ) -> Generator[Outcome[Task, Result], None, None]:
        """Yield an outcome per task; one that kills its process kills the run, one that hangs holds it."""
        for task in tasks:
            try:
                outcome = Outcome(task=task, result=function(task, self._worker))
            except SystemLimitError as error:
                outcome = Outcome(task=task, limit=str(error))
            self.board.report(0, 0, 0.0)
            yield outcome

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
    threads : int, optional
        Cores that all tasks together may use, >= 1; default: `jobs`.

    Raises
    ------
    InvalidParameterError
        `jobs` or `threads` is below 1.
    """

    elsewhere = False

    def __init__(self, jobs: int, *, threads: int | None = None) -> None:
        check_integer("jobs", jobs, 1)
        cores = jobs if threads is None else threads
        check_integer("threads", cores, 1)
        self.jobs = jobs
        self.board = Blackboard.create(jobs)
        self._slots = [_Slot(number, cores, self.board) for number in range(jobs)]

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
        patience: Callable[[Task], float] | None = None,
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
        patience : callable
            Returns for how many seconds a task may give no sign (`Worker.report`, `Worker.beat`) before its
            worker is ended; infinity and None: for ever.

        Raises
        ------
        SystemLimitError
            No worker can be started. Where some can, the run goes on with those and warns.
        """
        at_work: _AtWork[Task, Result] = _AtWork(self._slots, iter(tasks))
        while True:
            yield from at_work.start(function)
            self.board.active = len(at_work.in_flight)
            if not at_work.in_flight:
                return
            ended, _ = wait(at_work.in_flight, timeout=0.2, return_when=FIRST_COMPLETED)
            if on_wait:
                on_wait()
            for future in at_work.stuck() | ended:
                outcome = at_work.settle(future)
                self.board.active = len(at_work.in_flight)
                if outcome is not None:
                    yield outcome
            if patience is not None:
                yield from at_work.end_stalled(patience)

    def load(self, function: Callable[[Task, Worker], Result], tasks: int) -> None:
        """Start the workers of so many tasks and load the function there, without waiting for it.

        A worker that cannot be started is left to `run`.
        """
        for slot in self._slots[:tasks]:
            with contextlib.suppress(SystemLimitError):
                slot.load(function)

    def close(self) -> None:
        """Kill the workers at once; all but those that hung are gone when this returns."""
        for slot in self._slots:
            slot.kill()
        for slot in self._slots:
            slot.forget()
        self.board.close()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AtWork(Generic[Task, Result]):
    """The tasks of a run: waiting, or in flight on a slot; a slot whose worker cannot be had drops out."""

    def __init__(self, slots: Iterable[_Slot], tasks: Iterator[Task]) -> None:
        self._slots = list(slots)
        self._free = list(reversed(self._slots))
        self._waiting = tasks
        self._has_begun = False
        self.in_flight: dict[Future[Result], tuple[_Slot, Task]] = {}
        self._still: dict[Future[Result], Standstill] = {}

    def start(self, function: Callable[[Task, Worker], Result]) -> Iterator[Outcome[Task, Result]]:
        """Put tasks on the free slots; yield the outcome of each that no worker can be had for.

        Raises
        ------
        SystemLimitError
            No worker can be had for the first task.
        """
        while self._free and (drawn := list(itertools.islice(self._waiting, 1))):
            slot, (task,) = self._free.pop(), drawn
            try:
                self.in_flight[slot.submit(function, task)] = (slot, task)
            except SystemLimitError as error:
                if not self._has_begun and not self._others():
                    raise
                if outcome := self._limited(error, slot, task):
                    yield outcome

    def stuck(self) -> set[Future[Result]]:
        """Return the futures that nothing will ever set."""
        return {future for future, (slot, _) in self.in_flight.items() if slot.is_stuck}

    def settle(self, future: Future[Result]) -> Outcome[Task, Result] | None:
        """Free the slot of a future that is done or stuck; return its outcome, None if its task waits."""
        slot, task = self.in_flight.pop(future)
        try:
            outcome = slot.settle(future, task)
        except SystemLimitError as error:
            return self._limited(error, slot, task)
        self._has_begun = True
        self._free.append(slot)
        return outcome

    def end_stalled(self, patience: Callable[[Task], float]) -> Iterator[Outcome[Task, Result]]:
        """End the workers of tasks without progress for too long; yield their outcomes."""
        self._still = {future: self._still.get(future, Standstill()) for future in self.in_flight}
        for future, (slot, task) in list(self.in_flight.items()):
            most = patience(task)
            if self._still[future].lasts_longer_than(most, progress=slot.signs) and not future.done():
                del self.in_flight[future]
                slot.abandon()
                self._free.append(slot)
                yield Outcome(task=task, stalled=most)

    def _others(self) -> bool:
        return bool(self._free or self.in_flight)

    def _limited(self, error: SystemLimitError, slot: _Slot, task: Task) -> Outcome[Task, Result] | None:
        """Leave a task to the other slots, and drop this one; the last one stays, and its task fails."""
        if not self._others():
            self._has_begun = True
            self._free.append(slot)
            return Outcome(task=task, limit=str(error))
        self._waiting = itertools.chain([task], self._waiting)
        count = len(self._slots)
        warnings.warn(
            f"goes on with fewer than {count} worker processes: {error}", RuntimeWarning, stacklevel=4
        )
        return None


_worker: Worker | None = None
_limit: SystemLimitError | None = None


class _Slot:
    """One worker process, made when it is first needed and again after it died."""

    def __init__(self, number: int, cores: int, board: Blackboard) -> None:
        self._number = number
        self._cores = cores
        self._board = board
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[[Task, Worker], Result], task: Task) -> Future[Result]:
        """Give the worker a task, and start it first where needed.

        Raises
        ------
        SystemLimitError
            It cannot be started.
        """
        self._board.report(self._number, 0, 0.0)
        try:
            return self._submit(_call, function, task)
        except BrokenProcessPool:
            # It died while it had no task: nothing is lost.
            self.forget()
            return self._submit(_call, function, task)

    def load(self, function: Callable[[Task, Worker], Result]) -> None:
        """Start the worker, and load a function there.

        Raises
        ------
        SystemLimitError
            It cannot be started.
        """
        self._submit(_load, function)

    def _submit(self, call: Callable[..., Result], *args: object) -> Future[Result]:
        try:
            if self._pool is None:
                self._board.sign_in(self._number, 0)
                self._pool = ProcessPoolExecutor(
                    max_workers=1,
                    initializer=_start_worker,
                    initargs=(self._number, self._cores, self._board.path, os.getpid()),
                    env={name: os.environ.get(name, "1") for name in _THREADS_OF_LIBRARIES},
                )
            with deaf_to_ctrl_c():
                future: Future[Result] = self._pool.submit(call, *args)
        except BrokenProcessPool:
            raise
        except (OSError, RuntimeError) as error:
            self.abandon()
            raise SystemLimitError.of_start(error) or error from error
        return future

    @property
    def signs(self) -> tuple[int, float, int]:
        """Return frames, fraction and beats of its task."""
        return self._board.signs(self._number)

    @property
    def is_stuck(self) -> bool:
        """True if the thread that serves the worker has died: for want of another thread."""
        thread = None if self._pool is None else self._pool._executor_manager_thread
        return thread is not None and not thread.is_alive()

    def abandon(self) -> None:
        """Kill and drop a worker that hangs or that nothing serves, without waiting for its end."""
        pool, self._pool = self._pool, None
        for pid in [] if pool is None else list(pool._processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def settle(self, future: Future[Result], task: Task) -> Outcome[Task, Result]:
        """Return the end of a task whose future is done, or will never be.

        Raises
        ------
        SystemLimitError
            The worker could not start what the task needs, or nothing serves it any more; it is gone.
        """
        self._board.report(self._number, 0, 0.0)
        try:
            if not future.done():
                raise RuntimeError(NO_THREAD)
            return Outcome(task=task, result=future.result())
        except BrokenProcessPool as error:
            self.kill()
            self.forget()
            return Outcome(task=task, died=_cause_of_death(error))
        except RuntimeError as error:
            limit = SystemLimitError.of(error)
            if limit is None:
                raise
            self.abandon()
            raise limit from error
        except SystemLimitError:
            self.abandon()
            raise

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


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Hold Ctrl-C back: a process that starts meanwhile, and those that it starts, never get it.

    Ctrl-C reaches the whole process group, and a worker that still imports could not ignore it yet: it would
    print a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause_of_death(error: BrokenProcessPool) -> str:
    """Return the part of loky's message that names the exit: `SIGSEGV(-11)`."""
    text = str(error)
    _, brace, rest = text.partition("{")
    exit_code = rest.partition("}")[0] if brace else ""
    hint = " (perhaps out of memory)" if "SIGKILL" in exit_code else ""
    return f"the worker process ended with {exit_code or text}{hint}"


def _call(function: Callable[[Task, Worker], Result], task: Task) -> Result:
    assert _worker is not None, "the pool's initializer has not run"
    if _limit is not None:
        raise _limit
    return function(task, _worker)


def _load(function: Callable[..., object]) -> None:
    """Do nothing; unpickling the function has imported its module."""


def _start_worker(slot: int, cores: int, board: Path, parent: int) -> None:
    global _worker, _limit
    # Ctrl-C reaches the whole process group; the coordinator ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = Blackboard(board)
    _worker = Worker(slot=slot, jobs=cores, board=own)
    own.sign_in(slot, os.getpid())
    try:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    except RuntimeError as error:
        # For its first task: an error here would be printed with its traceback.
        _limit = SystemLimitError.of(error)


def _end_with(parent: int) -> None:
    """End this process soon after its coordinator was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
