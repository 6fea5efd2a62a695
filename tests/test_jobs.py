from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Iterable

import pytest

from flowkit.errors import (
    BackendError,
    BackendUnavailableError,
    DecodeError,
    NoSpaceError,
    StoreCorruptError,
    SystemLimitError,
    UnopenableError,
)
from flowkit.executor import AtWork, Blackboard, InlineExecutor, LocalExecutor, Outcome, Worker
from flowkit.jobs import Progress, TaskKind, explain, run_tasks


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """The outcome of a task that is an error to raise, or None."""

    status: str = "done"
    reason: str = ""
    detail: str = ""
    n_frames: int = 1


def work(task: object, worker: Worker) -> Counted:
    if isinstance(task, Exception):
        raise task
    return Counted()


def die(task: object, worker: Worker) -> Counted:
    if task == "die":
        os._exit(9)
    return work(task, worker)


def fail(task: object, reason: str, detail: str) -> Counted:
    return Counted(status="failed", reason=reason, detail=detail, n_frames=0)


KIND = TaskKind(work=work, fail=fail)


def run(*tasks: object, kind: TaskKind[object, Counted] = KIND, fail_fast: bool = False) -> list[Counted]:
    with InlineExecutor() as executor:
        return run_tasks(kind, tasks, jobs=1, executor=executor, fail_fast=fail_fast)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnopenableError("x"), "unopenable"),
        (DecodeError("x"), "decode_error"),
        (NoSpaceError("x"), "no_space"),
        (BackendError("x"), "engine_error"),
        (BackendUnavailableError("x"), "engine_error"),
        (MemoryError("x"), "out_of_memory"),
        (SystemLimitError("x"), "system_limit"),
    ],
)
def test_a_foreseen_error_has_its_reason_and_its_message(error: Exception, reason: str) -> None:
    assert explain(error) == (reason, "x")


def test_an_error_without_a_message_is_still_explained() -> None:
    assert explain(MemoryError()) == ("out_of_memory", "out of memory")


def test_the_rows_of_a_kind_follow_those_of_all() -> None:
    rows = ((OSError, "write_error"),)
    assert explain(PermissionError("locked"), rows) == ("write_error", "locked")
    assert explain(StoreCorruptError("damaged"), rows) == ("write_error", "damaged")
    # Both are OSErrors too.
    assert explain(NoSpaceError("full"), rows) == ("no_space", "full")
    assert explain(UnopenableError("gone"), rows) == ("unopenable", "gone")


def test_an_unforeseen_error_costs_its_task_only_and_keeps_its_traceback() -> None:
    good, bad, last = run(None, ZeroDivisionError("a fault of ours"), None)
    assert (good.status, bad.status, last.status) == ("done", "failed", "done")
    assert bad.reason == "internal_error"
    assert bad.detail.startswith("Traceback")
    assert "ZeroDivisionError: a fault of ours" in bad.detail


def test_what_is_no_error_ends_the_run() -> None:
    class Stop(BaseException):
        """As an interruption."""

    def interrupt(task: object, worker: Worker) -> Counted:
        raise Stop

    with pytest.raises(Stop):
        run(None, kind=TaskKind(work=interrupt, fail=fail))


def test_a_worker_that_dies_costs_its_task_only() -> None:
    with LocalExecutor(1) as executor:
        outcomes = run_tasks(TaskKind(work=die, fail=fail), ["die", None], jobs=1, executor=executor)
    assert [outcome.reason for outcome in outcomes] == ["worker_died", ""]
    assert "EXIT(9)" in outcomes[0].detail


def test_a_full_disk_ends_the_run() -> None:
    outcomes = run(None, NoSpaceError("full"), None, None)
    assert [outcome.reason for outcome in outcomes] == ["", "no_space"]


def test_fail_fast_ends_the_run_at_the_first_failure() -> None:
    assert [outcome.reason for outcome in run(None, OSError(), None)] == ["", "internal_error", ""]
    assert [outcome.reason for outcome in run(None, OSError(), None, fail_fast=True)] == [
        "",
        "internal_error",
    ]


def test_no_tasks_need_no_worker_and_report_nothing() -> None:
    seen: list[Progress[Counted]] = []
    assert run_tasks(KIND, [], jobs=1, on_progress=seen.append) == []
    assert not seen


def test_progress_counts_tasks_frames_and_failures_and_weighs_the_work() -> None:
    seen: list[Progress[Counted]] = []
    with InlineExecutor() as executor:
        outcomes = run_tasks(
            KIND,
            [None, ValueError(), None],
            jobs=1,
            executor=executor,
            on_progress=seen.append,
            weights=[1, 2, 5],
            failed=4,
        )
    assert [now.fraction for now in seen] == [1 / 8, 3 / 8, 1.0]
    assert [(now.done, now.total, now.failed, now.frames) for now in seen] == [
        (1, 3, 4, 1),
        (2, 3, 5, 1),
        (3, 3, 5, 2),
    ]
    assert [now.outcome for now in seen] == outcomes


class HalfWay:
    """Reports a first task of two that is half done, and runs none."""

    jobs = 1
    elsewhere = False

    def __init__(self) -> None:
        self.board = Blackboard.create(1)

    def at_work(self) -> list[AtWork[object]]:
        return []

    def run(
        self,
        function: Callable[[object, Worker], Counted],
        tasks: Iterable[object],
        *,
        on_wait: Callable[[], None] | None = None,
        patience: Callable[[object], float] | None = None,
    ) -> Generator[Outcome[object, Counted], None, None]:
        self.board.report(0, 7, 0.5)
        assert on_wait is not None
        on_wait()
        yield from ()


def test_what_is_in_flight_counts_by_its_fraction() -> None:
    seen: list[Progress[Counted]] = []
    executor = HalfWay()
    run_tasks(KIND, [None, None], jobs=1, executor=executor, on_progress=seen.append)  # type: ignore[arg-type]
    executor.board.close()
    assert [(now.done, now.frames, now.fraction, now.outcome) for now in seen] == [(0, 7, 0.25, None)]


def test_a_thread_that_cannot_start_is_a_limit_and_no_internal_error() -> None:
    (outcome,) = run(RuntimeError("can't start new thread"))
    assert outcome.reason == "system_limit"
    assert "ulimit -u" in outcome.detail
