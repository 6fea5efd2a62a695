"""Tasks over worker processes: bounded, in a pool that survives its workers.

Each slot is a loky pool of one process. A worker that dies (a decoder's segfault, the
kernel's out-of-memory killer) therefore breaks its own slot only: its task is named, the
slot gets a new process, and no other task loses a frame. (One pool of N would fail all
tasks in flight and could not say which of them was at fault.)

Where the system has no room for another process, the run goes on with those that it has.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Generic, Protocol, TypeVar

from flowkit.errors import SystemLimitError
from flowkit.validate import check_integer
from flowkit.workers.board import AtWork as AtWork
from flowkit.workers.board import Blackboard as Blackboard
from flowkit.workers.board import Standstill
from flowkit.workers.board import Worker as Worker
from flowkit.workers.slot import Outcome as Outcome
from flowkit.workers.slot import Slot

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs tasks in `jobs` slots; `board` has the progress of each; `elsewhere`: on other machines."""

    board: Blackboard

    @property
    def elsewhere(self) -> bool:
        """True if its workers do not see this machine's sockets and devices."""

    @property
    def gpus(self) -> bool:
        """True if each of its workers, elsewhere, has a GPU to itself."""

    @property
    def jobs(self) -> int:
        """Number of slots."""

    def at_work(self) -> Sequence[AtWork[Any]]:
        """Return the tasks that workers have now."""

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
    elsewhere = gpus = False

    def __init__(self, threads: int = 1) -> None:
        check_integer("threads", threads, 1)
        self.board = Blackboard.create(1)
        self.board.active = 1
        self._worker = Worker(slot=0, jobs=threads, board=self.board)
        self._place = f"process {os.getpid()}"

    def at_work(self) -> Sequence[AtWork[Any]]:
        """Return nothing: whoever could ask does the work."""
        return ()

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
                outcome = Outcome(task=task, result=function(task, self._worker), worker=self._place)
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

    elsewhere = gpus = False

    def __init__(self, jobs: int, *, threads: int | None = None) -> None:
        check_integer("jobs", jobs, 1)
        cores = jobs if threads is None else threads
        check_integer("threads", cores, 1)
        self.jobs = jobs
        self.board = Blackboard.create(jobs)
        self._slots = [Slot(number, cores, self.board) for number in range(jobs)]
        self._in_flight: Mapping[Future[Any], tuple[Slot, Any]] = {}

    def at_work(self) -> Sequence[AtWork[Any]]:
        """Return the tasks in flight."""
        return [
            AtWork(task=task, slot=slot.number, worker=slot.worker) for slot, task in self._in_flight.values()
        ]

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
        self._in_flight = at_work.in_flight
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
        try:
            for slot in self._slots:
                slot.kill()
            for slot in self._slots:
                slot.forget()
        finally:  # Ctrl-C may end the wait for them
            self.board.close()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AtWork(Generic[Task, Result]):
    """The tasks of a run: waiting, or in flight on a slot; a slot whose worker cannot be had drops out."""

    def __init__(self, slots: Iterable[Slot], tasks: Iterator[Task]) -> None:
        self._slots = list(slots)
        self._free = list(reversed(self._slots))
        self._waiting = tasks
        self._has_begun = False
        self.in_flight: dict[Future[Result], tuple[Slot, Task]] = {}
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
                yield Outcome(task=task, stalled=most, worker=slot.worker)

    def _others(self) -> bool:
        return bool(self._free or self.in_flight)

    def _limited(self, error: SystemLimitError, slot: Slot, task: Task) -> Outcome[Task, Result] | None:
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
