"""One worker process of this machine, made when it is first needed and again after it died."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Generic, TypeVar

from joblib.externals.loky.process_executor import ProcessPoolExecutor

from flowkit.errors import NO_THREAD, GpuError, SystemLimitError
from flowkit.workers.board import Blackboard, Worker

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
    error : GpuError or None
        Of the worker's GPU, which is at fault, or the task is.
    stalled : float
        Seconds without progress after which its worker was ended.
    worker : str
        The process, or the address in a cluster, that had it last; "" where none had.
    """

    task: Task
    result: Result | None = None
    died: str = ""
    limit: str = ""
    error: GpuError | None = None
    stalled: float = 0.0
    worker: str = ""


_worker: Worker | None = None
_limit: SystemLimitError | None = None


class Slot:
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
        except (OSError, RuntimeError, UnboundLocalError) as error:
            self.abandon()
            # Where no pipe can be made loky's own clean-up fails, over a name that has no value yet.
            cause = error.__context__ if isinstance(error, UnboundLocalError) else error
            raise SystemLimitError.of_start(cause or error) or error from error
        return future

    @property
    def number(self) -> int:
        """Return its number on the board."""
        return self._number

    @property
    def worker(self) -> str:
        """Return the name of its process; "" while it starts."""
        pid = self._board.pid(self._number)
        return f"process {pid}" if pid else ""

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
            return Outcome(task=task, result=future.result(), worker=self.worker)
        except BrokenProcessPool as error:
            self.kill()
            self.forget()
            return Outcome(task=task, died=_cause_of_death(error), worker=self.worker)
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
