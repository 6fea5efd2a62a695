"""Run tasks on the workers of a dask cluster, one at a time on each; workers may die or hang.

A worker has one task at a time, and its threads are the cores that the task may use. One that dies costs no
other task: its task is given to another worker once, and fails by name when that one dies as well. So is the
task at which a worker's GPU fails; a worker whose GPU is lost is started again by its nanny. Workers that
join later are used; those that could not do the work are refused before they get any.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import queue
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeAlias, TypeVar

from flowkit.errors import ClusterError, GpuError, GpuLostError, SystemLimitError
from flowkit.workers import remote
from flowkit.workers.board import AtWork, Blackboard, Standstill, Worker
from flowkit.workers.candidates import ANSWER_S, GPU, Answer, Candidates
from flowkit.workers.cluster import connected
from flowkit.workers.slot import Outcome

Future: TypeAlias = Any
"""That of distributed, whose types are given in part."""

MOST_WORKERS = 4096
ATTEMPTS = 2
"""Workers that may fail at one task before it does."""
CONNECT_S, LOST_S = 20, 15
"""Seconds for a scheduler to answer, and after which a lost one is given up."""
_LOOK_S = 1.0

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class _Seat:
    """A worker of the cluster, its number on the board, and its cores."""

    number: int
    address: str
    threads: int


@dataclasses.dataclass(slots=True)
class _Run(Generic[Task]):
    """A task on a worker, how many failed at it before, and the error of this one's GPU."""

    seat: _Seat
    task: Task
    failed: int
    error: GpuError | None = None
    still: Standstill = dataclasses.field(default_factory=Standstill)


class _Waiting(Generic[Task]):
    """The tasks that no worker has, each with the number of workers that failed at it."""

    def __init__(self, left: Iterator[Task]) -> None:
        self._left = left
        # And the worker that failed at it last, which gets it again only if it is alone.
        self._again: list[tuple[Task, int, str]] = []

    def __bool__(self) -> bool:
        if not self._again:
            self._again.extend((task, 0, "") for task in itertools.islice(self._left, 1))
        return bool(self._again)

    def pop(self, worker: str, *, alone: bool) -> tuple[Task, int] | None:
        """Return a task for a worker; None if others have to do what is left."""
        for k, (task, failed, avoided) in enumerate(self._again):
            if alone or avoided != worker:
                del self._again[k]
                return task, failed
        return next(((task, 0) for task in self._left), None)

    def add(self, task: Task, failed: int, *, avoided: str) -> None:
        self._again.append((task, failed, avoided))


class DaskExecutor:
    """Run tasks on a dask cluster.

    Parameters
    ----------
    where : str
        Address of a scheduler (tcp://host:8786), the file that `dask scheduler --scheduler-file` writes, or
        "local": a cluster on this machine that ends with the executor.
    jobs : int
        Workers of a local cluster, >= 1; the machine's cores are divided among them.
    folder : Path
        A folder that this process can write to and every worker must see, such as that of the store.
    inputs : sequence of Path
        Files and folders that every worker must see.
    gpus : bool
        Use workers with dask's resource GPU alone, one task on each.
    check : callable, optional
        Called as `check()` in each worker before it gets work: returns why it cannot do it, "" if it can.

    Raises
    ------
    ClusterError
        No scheduler answers, or no worker of it can do the work; the message says of each why.
    InvalidParameterError
        The package `distributed` is not installed.
    """

    elsewhere = True

    def __init__(
        self,
        where: str,
        *,
        jobs: int,
        folder: Path,
        inputs: Sequence[Path] = (),
        gpus: bool = False,
        check: Callable[[], str] | None = None,
    ) -> None:
        self._where, self.gpus = where, gpus
        self._topic = f"flowkit-{uuid.uuid4().hex}"
        self._seats: dict[str, _Seat] = {}
        self._refused: dict[str, str] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._looked, self._heard = 0.0, time.monotonic()
        self._running: dict[Future, _Run[Any]] = {}
        self.board = Blackboard.create(MOST_WORKERS)
        with contextlib.ExitStack() as stack:
            stack.callback(self.board.close)
            self._client, self._cluster = connected(where, jobs=jobs, timeout=CONNECT_S)
            stack.callback(self._disconnect)
            self._client.subscribe_topic(self._topic, self._note)
            self._candidates = Candidates(
                self._client,
                folder=folder,
                inputs=[str(path.absolute()) for path in inputs],
                gpus=gpus,
                check=check,
            )
            stack.callback(self._candidates.close)
            self._wait_for_workers()
            if not self._seats:
                raise ClusterError(f"no worker of {where} can do the work: {self._why_refused()}")
            stack.pop_all()

    @property
    def jobs(self) -> int:
        """Numbers of the board that are in use."""
        return 1 + max((seat.number for seat in self._seats.values()), default=0)

    def at_work(self) -> Sequence[AtWork[Any]]:
        """Return the tasks that workers of the cluster have."""
        return [
            AtWork(task=run.task, slot=run.seat.number, worker=run.seat.address)
            for run in list(self._running.values())
        ]

    def run(
        self,
        function: Callable[[Task, Worker], Result],
        tasks: Iterable[Task],
        *,
        on_wait: Callable[[], None] | None = None,
        patience: Callable[[Task], float] | None = None,
    ) -> Generator[Outcome[Task, Result], None, None]:
        """Yield an outcome per task, as they end; each worker has one at a time.

        Parameters
        ----------
        function, tasks, on_wait, patience
            As those of `flowkit.executor.LocalExecutor.run`.

        Raises
        ------
        ClusterError
            The scheduler is lost, or all workers are and none joins.
        """
        waiting = _Waiting(iter(tasks))
        running: dict[Future, _Run[Task]] = {}
        self._running = running
        try:
            while True:
                self._start(function, waiting, running)
                self.board.active = len(running)
                if not running and not waiting:
                    return
                with contextlib.suppress(queue.Empty):
                    future = self._ended.get(timeout=0.2)
                    run = running.get(future)
                    # Of a lost one there is neither result nor error: `_lost` gives its task away.
                    if run is not None and future.status in ("finished", "error"):
                        outcome = self._settled(future, run)
                        if outcome is not None:
                            del running[future]
                            yield outcome
                if on_wait:
                    on_wait()
                self._look()
                self._take_answers()
                yield from self._lost(running, waiting)
                if patience is not None:
                    yield from self._end_stalled(running, patience)
        finally:
            for future in running:
                future.release()

    def _start(
        self,
        function: Callable[[Task, Worker], Result],
        waiting: _Waiting[Task],
        running: dict[Future, _Run[Task]],
    ) -> None:
        """Give each free worker a task."""
        busy = {run.seat.address for run in running.values()}
        for seat in [one for one in self._seats.values() if one.address not in busy]:
            if not waiting:
                return
            given = waiting.pop(seat.address, alone=len(self._seats) == 1)
            if given is None:
                continue
            task, failed = given
            self.board.report(seat.number, 0, 0.0)
            future = self._client.submit(
                remote.in_worker,
                function,
                task,
                number=seat.number,
                threads=seat.threads,
                topic=self._topic,
                folder=os.getcwd(),
                key=f"flowkit-{uuid.uuid4().hex}",
                workers=[seat.address],
                allow_other_workers=False,
                resources={GPU: 1} if self.gpus else None,
                pure=False,
            )
            running[future] = _Run(seat, task, failed)
            future.add_done_callback(self._ended.put)

    def _settled(self, future: Future, run: _Run[Task]) -> Outcome[Task, Any] | None:
        """Return the outcome of a task that ended; None where it cannot be had (yet) or a GPU failed."""
        self.board.report(run.seat.number, 0, 0.0)
        try:
            if future.status == "finished":
                return Outcome(task=run.task, result=future.result(timeout=ANSWER_S), worker=run.seat.address)
            error = future.exception(timeout=ANSWER_S)
        except (TimeoutError, OSError):
            self._ended.put(future)  # unless its worker turns out to be lost
            return None
        if isinstance(error, SystemLimitError):
            return Outcome(task=run.task, limit=str(error))
        if isinstance(error, GpuError):
            run.error = error
            warnings.warn(f"worker {run.seat.address}: {error}", RuntimeWarning, stacklevel=3)
            if isinstance(error, GpuLostError):
                self._restart(run.seat, "its GPU is lost")
            return None
        if type(error).__name__ == "KilledWorker":
            return Outcome(task=run.task, died=_WORKERS_DIED, worker=run.seat.address)
        raise error or ClusterError(f"a task ended as {future.status} on {run.seat.address}")

    def _lost(
        self, running: dict[Future, _Run[Task]], waiting: _Waiting[Task]
    ) -> Iterator[Outcome[Task, Any]]:
        """Give the tasks of workers that failed to others; yield those that have had their chances."""
        for future, run in list(running.items()):
            gone = self._seats.get(run.seat.address) is not run.seat or future.status == "lost"
            if run.error is None and not gone:
                continue
            del running[future]
            future.cancel()
            if run.failed + 1 < ATTEMPTS:
                waiting.add(run.task, run.failed + 1, avoided=run.seat.address)
            else:
                yield Outcome(task=run.task, died=_WORKERS_DIED, error=run.error, worker=run.seat.address)

    def _end_stalled(
        self, running: dict[Future, _Run[Task]], patience: Callable[[Task], float]
    ) -> Iterator[Outcome[Task, Any]]:
        """End the workers of tasks without progress for too long; yield their outcomes."""
        for future, run in list(running.items()):
            most, progress = patience(run.task), self.board.signs(run.seat.number)
            if run.still.lasts_longer_than(most, progress=progress) and not future.done():
                del running[future]
                future.cancel()
                self._restart(run.seat, "it hung in a task")
                yield Outcome(task=run.task, stalled=most, worker=run.seat.address)

    def _restart(self, seat: _Seat, why: str) -> None:
        """Have a worker's nanny start it again; one without a nanny gets no more work."""
        del self._seats[seat.address]
        try:
            self._client.restart_workers([seat.address], timeout=10)
        except Exception as error:  # of many kinds, and the others go on whatever it is
            self._refuse(seat.address, f"{why}, and it cannot be started again: {error}")

    def _refuse(self, address: str, why: str) -> None:
        self._refused[address] = why
        warnings.warn(f"worker {address} gets no work: {why}", RuntimeWarning, stacklevel=4)

    def _look(self) -> None:
        """Take note of workers that joined or left, about once a second.

        Raises
        ------
        ClusterError
            The scheduler has not answered for `LOST_S`, or there has been no worker for so long.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        workers: dict[str, Any] = {}
        if self._client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                workers = self._client.scheduler_info(n_workers=-1)["workers"]
        self._seats = {address: seat for address, seat in self._seats.items() if address in workers}
        self._refused = {address: why for address, why in self._refused.items() if address in workers}
        for address, worker in workers.items():
            if not any(address in known for known in (self._seats, self._refused, self._candidates)):
                self._candidates.ask(address, worker)
        if self._seats or (workers and self._candidates):
            self._heard = now
        elif now - self._heard > LOST_S:
            raise ClusterError(
                f"the cluster at {self._where} has no scheduler or no worker any more: "
                f"{self._why_refused()}; what is finished is kept, the same command goes on"
            )

    def _wait_for_workers(self) -> None:
        """Ask the workers that are there, until all have answered; those that are slow may join later."""
        self._look()
        began = time.monotonic()
        while self._candidates and not (self._seats and time.monotonic() - began > ANSWER_S):
            self._take_answers(timeout=1.0)

    def _take_answers(self, *, timeout: float = 0.0) -> None:
        """Give the workers that can do the work a number."""
        for answer in self._candidates.answers(timeout=timeout):
            if answer.why_not:
                self._refuse(answer.address, answer.why_not)
            else:
                self._seats[answer.address] = self._seat(answer)

    def _seat(self, answer: Answer) -> _Seat:
        taken = {seat.number for seat in self._seats.values()}
        number = next(k for k in range(MOST_WORKERS) if k not in taken)
        return _Seat(number, answer.address, answer.threads)

    def _why_refused(self) -> str:
        return "; ".join(f"{one}: {why}" for one, why in self._refused.items()) or "there is none"

    def _note(self, event: tuple[float, Any]) -> None:
        """Put a worker's progress on the board."""
        number, frames, fraction = event[1]
        with contextlib.suppress(ValueError):  # the board is closed
            if frames is not None:
                self.board.report(number, frames, fraction)
            self.board.beat(number)

    def _disconnect(self) -> None:
        with contextlib.suppress(Exception):  # of a scheduler that is gone
            self._client.close(timeout=5)
        if self._cluster is not None:
            self._cluster.close(timeout=10)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._candidates.close()
        self._disconnect()
        self.board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_WORKERS_DIED = f"{ATTEMPTS} workers of the cluster ended while they worked on it"
