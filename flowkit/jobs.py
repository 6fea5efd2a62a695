"""Tasks over an executor: error to reason, progress, when to stop.

Nothing here depends on videos or stores. A `TaskKind` names the work and the outcome of a failed task;
an error of a worker fails its own task, with a reason of one word, and no other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from flowkit.errors import BackendError, GpuError, NoSpaceError, SystemLimitError, VideoError
from flowkit.executor import Executor, LocalExecutor, Worker

Reasons: TypeAlias = tuple[tuple[type[Exception], str], ...]

REASONS: Final[Reasons] = (
    (VideoError, VideoError.reason),
    (NoSpaceError, NoSpaceError.reason),
    (SystemLimitError, SystemLimitError.reason),
    (BackendError, "engine_error"),
    (MemoryError, "out_of_memory"),
)
"""The reason that each error gives a failed task; the first row that fits counts.

A `VideoError` carries the word of its own class. The rows of a kind follow, then "internal_error" for any
other error, with the traceback; "worker_died" is for a worker that ended without one, "timed_out" for one
that was ended since it got no further.
"""


class TaskOutcome(Protocol):
    """The end of one task, as a run counts it; `reason` is "" unless `status` is "failed"."""

    @property
    def status(self) -> str:
        """Return "failed", or a word for a good end."""

    @property
    def reason(self) -> str:
        """Return the reason of a failure, one word."""

    @property
    def n_frames(self) -> int:
        """Return the number of frames that were worked through."""


Task = TypeVar("Task")
Result = TypeVar("Result", bound=TaskOutcome)


def _unnamed(_: object) -> str:
    return ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskKind(Generic[Task, Result]):
    """One kind of task; everything in it can be pickled.

    Parameters
    ----------
    work : callable
        Called as `work(task, worker)` in a worker process; may raise any exception.
    fail : callable
        Called as `fail(task, reason, detail)`: returns the outcome of a task that failed.
    reasons : tuple of (type, str)
        Rows that follow those of `REASONS`.
    name : callable
        Returns the name of a task, for the progress.
    """

    work: Callable[[Task, Worker], Result]
    fail: Callable[[Task, str, str], Result]
    reasons: Reasons = ()
    name: Callable[[Task], str] = _unnamed


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskAtWork:
    """A task in the hands of a worker.

    Attributes
    ----------
    name : str
        As its kind names it.
    worker : str
        Its process, or its address in a cluster.
    frames : int
        Frames of it so far.
    """

    name: str
    worker: str
    frames: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress(Generic[Result]):
    """The progress of a run.

    Attributes
    ----------
    done, total : int
        Tasks that ended, and all.
    failed : int
        Tasks that failed, those before the run included.
    frames : int
        Frames so far.
    fraction : float
        Of the work that is done, by the tasks' weights, in [0, 1].
    outcome : optional
        Of the task that has just ended; None between two.
    worker : str
        The process, or the address in a cluster, that had the task of `outcome`.
    at_work : tuple of TaskAtWork
        The tasks that workers have now.
    """

    done: int
    total: int
    failed: int
    frames: int
    fraction: float
    outcome: Result | None = None
    worker: str = ""
    at_work: tuple[TaskAtWork, ...] = ()


def run_tasks(
    kind: TaskKind[Task, Result],
    tasks: Sequence[Task],
    *,
    jobs: int,
    executor: Executor | None = None,
    on_outcome: Callable[[Result], None] = lambda _: None,
    on_progress: Callable[[Progress[Result]], None] | None = None,
    weights: Sequence[int] | None = None,
    failed: int = 0,
    fail_fast: bool = False,
    patience: Callable[[Task], float] | None = None,
) -> list[Result]:
    """Run tasks and return their outcomes, in the order in which they ended.

    A full disk ends the run, because it fails every later task in the same way; so does the first failure
    with `fail_fast`. Tasks that were not tried have no outcome.

    Parameters
    ----------
    kind : TaskKind
        The work.
    tasks : sequence
        Each is passed to `kind.work`.
    jobs : int
        Processes of this machine to run them, where no `executor` does.
    executor : Executor, optional
        Runs the tasks.
    on_outcome : callable
        Called with the outcome of each task when it ends.
    on_progress : callable, optional
        Called with a `Progress` when a task ends and about five times a second between.
    weights : sequence of int, optional
        The fraction of the work that each task is, in any unit, > 0; without it all are equal.
    failed : int
        Failures before the run, for the progress.
    fail_fast : bool
        Stop at the first task that fails.
    patience : callable, optional
        Returns for how many seconds a task may report no progress before it fails as "timed_out".

    Raises
    ------
    KeyboardInterrupt
        Workers are ended first.
    """
    outcomes: list[Result] = []
    if not tasks:
        return outcomes
    weights = weights or [1] * len(tasks)
    with contextlib.ExitStack() as stack:
        # More workers than tasks are of use: their cores go to the tasks' threads.
        executor = executor or stack.enter_context(LocalExecutor(jobs))
        meter = _Meter(weights, executor, on_progress, failed, kind.name)
        running = executor.run(
            functools.partial(_attempt, kind),
            list(enumerate(tasks)),
            on_wait=meter.tick,
            patience=None if patience is None else lambda numbered: patience(numbered[1]),
        )
        # Closed even when the loop is left early: no worker lives on behind it.
        for ended in stack.enter_context(contextlib.closing(running)):
            number, task = ended.task
            outcome = ended.result
            if ended.limit:
                outcome = kind.fail(task, SystemLimitError.reason, ended.limit)
            elif ended.stalled:
                detail = f"no progress for {ended.stalled:.0f} s; its worker was ended, another goes on"
                outcome = kind.fail(task, "timed_out", detail)
            elif ended.error is not None:
                outcome = kind.fail(task, *explain(ended.error))
            elif outcome is None:
                outcome = kind.fail(task, "worker_died", ended.died)
            outcomes.append(outcome)
            on_outcome(outcome)
            meter.count(weights[number], outcome, ended.worker)
            if outcome.reason == NoSpaceError.reason or (fail_fast and outcome.status == "failed"):
                break
    return outcomes


def explain(error: Exception, reasons: Reasons = ()) -> tuple[str, str]:
    """Return the reason of a failure, one word, and its detail.

    Parameters
    ----------
    error : Exception
        Raised by the work.
    reasons : tuple of (type, str)
        Rows that follow those of `REASONS`.
    """
    for kind, reason in (*REASONS, *reasons):
        if isinstance(error, kind):
            own = error.reason if isinstance(error, VideoError) else reason
            return own, str(error) or own.replace("_", " ")
    return "internal_error", "".join(traceback.format_exception(error, limit=-4))


def _attempt(kind: TaskKind[Task, Result], numbered: tuple[int, Task], worker: Worker) -> Result:
    """Do one task in a worker; an error becomes its outcome.

    Raises
    ------
    SystemLimitError
        The system allows no further thread or process; fewer workers may do the task.
    GpuError
        The worker's own GPU failed; another worker may do the task.
    """
    _, task = numbered
    try:
        return kind.work(task, worker)
    except Exception as error:  # a fault that one task brings to light must not cost the others
        if limit := SystemLimitError.of(error):
            raise limit from None
        if isinstance(error, GpuError) and worker.owns_gpu:
            raise
        return kind.fail(task, *explain(error, kind.reasons))


class _Meter(Generic[Result]):
    """Sums the outcomes, and the progress of tasks in flight."""

    def __init__(
        self,
        weights: Sequence[int],
        executor: Executor,
        on_progress: Callable[[Progress[Result]], None] | None,
        failed: int,
        name: Callable[[Any], str],
    ) -> None:
        self._executor, self._on_progress, self._name = executor, on_progress, name
        self._total, self._whole = len(weights), sum(weights)
        self._done, self._failed, self._frames, self._worked = 0, failed, 0, 0

    def tick(self) -> None:
        """Report the progress between two tasks."""
        self._report(None)

    def count(self, weight: int, outcome: Result, worker: str) -> None:
        """Count a task that ended, and report."""
        self._done += 1
        self._failed += outcome.status == "failed"
        self._frames += outcome.n_frames
        self._worked += weight
        self._report(outcome, worker)

    def _report(self, outcome: Result | None, worker: str = "") -> None:
        if self._on_progress is None:
            return
        board = self._executor.board
        in_flight = [board.progress(slot) for slot in range(self._executor.jobs)]
        mean = self._whole / self._total
        partly = self._worked + sum(fraction for _, fraction in in_flight) * mean
        self._on_progress(
            Progress(
                done=self._done,
                total=self._total,
                failed=self._failed,
                frames=self._frames + sum(frames for frames, _ in in_flight),
                fraction=min(1.0, partly / self._whole),
                outcome=outcome,
                worker=worker,
                at_work=tuple(
                    TaskAtWork(
                        name=self._name(one.task[1]), worker=one.worker, frames=board.progress(one.slot)[0]
                    )
                    for one in self._executor.at_work()
                ),
            )
        )
