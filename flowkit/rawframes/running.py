"""Tasks over worker processes with one progress report, for export and import alike."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Generic, Protocol, TypeVar

from flowkit.executor import Executor, LocalExecutor, Worker


class _Result(Protocol):
    @property
    def n_frames(self) -> int: ...

    @property
    def status(self) -> str: ...


Task = TypeVar("Task")
Result = TypeVar("Result", bound=_Result)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress(Generic[Result]):
    """How far a run is; `outcome` is what has just ended, if anything has.

    `done` of `total` tasks ended, `failed` of them badly; `frames` counts frames so far;
    `fraction` is the share of the work, in [0, 1].
    """

    done: int
    total: int
    failed: int
    frames: int
    fraction: float
    outcome: Result | None = None


def run_tasks(
    function: Callable[[Task, Worker], Result],
    tasks: Sequence[Task],
    *,
    lost: Callable[[Task, str], Result],
    jobs: int,
    executor: Executor | None = None,
    on_progress: Callable[[Progress[Result]], None] = lambda _: None,
) -> Generator[Result, None, None]:
    """Yield what each task came to, as they end.

    Parameters
    ----------
    function : callable
        Called as `function(task, worker)` in a worker process.
    tasks : sequence
        What is to be done.
    lost : callable
        Makes the result of a task whose worker died, from the task and how it died.
    jobs : int
        Worker processes, where no executor is given.
    executor : Executor, optional
        What runs the tasks.
    on_progress : callable
        Called when a task ends and about five times a second between.
    """
    if not tasks:
        return
    with contextlib.ExitStack() as stack:
        executor = executor or stack.enter_context(LocalExecutor(min(jobs, len(tasks))))
        meter = _Meter(len(tasks), executor, on_progress)
        running = stack.enter_context(contextlib.closing(executor.run(function, tasks, on_wait=meter.tick)))
        for ended in running:
            result = ended.result if ended.result is not None else lost(ended.task, ended.died)
            meter.count(result)
            yield result


class _Meter(Generic[Result]):
    """Adds up what ended and what the workers report between."""

    def __init__(
        self, total: int, executor: Executor, on_progress: Callable[[Progress[Result]], None]
    ) -> None:
        self._total, self._executor, self._on_progress = total, executor, on_progress
        self._done = self._failed = self._frames = 0

    def tick(self) -> None:
        self._tell(None)

    def count(self, result: Result) -> None:
        self._done += 1
        self._failed += result.status == "failed"
        self._frames += result.n_frames
        self._tell(result)

    def _tell(self, result: Result | None) -> None:
        board = self._executor.board
        flying = [board.progress(slot) for slot in range(self._executor.jobs)]
        partly = self._done + sum(fraction for _, fraction in flying)
        self._on_progress(
            Progress(
                done=self._done,
                total=self._total,
                failed=self._failed,
                frames=self._frames + sum(frames for frames, _ in flying),
                fraction=min(1.0, partly / self._total),
                outcome=result,
            )
        )
