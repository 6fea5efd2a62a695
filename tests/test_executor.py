from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
from joblib.externals.loky.backend import queues as loky_queues
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from flowkit.errors import InvalidParameterError, SystemLimitError
from flowkit.executor import Blackboard, InlineExecutor, LocalExecutor, Outcome, Worker
from flowkit.workers import slot as slot_module


def square(task: int, worker: Worker) -> int:
    worker.report(task, 0.5)
    return task * task


def crash(task: int, worker: Worker) -> int:
    if task == 2:
        ctypes.string_at(0)
    if task == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def threads_seen(task: int, worker: Worker) -> int:
    # The other task must have begun, or have ended, before this one looks.
    deadline = time.monotonic() + 5
    while worker.board.active < task and time.monotonic() < deadline:
        time.sleep(0.01)
    return worker.threads()


def fail(task: int, worker: Worker) -> int:
    raise ValueError(f"task {task}")


def where(task: int, worker: Worker) -> int:
    return os.getpid()


def signed_in(executor: LocalExecutor, slot: int) -> int:
    """Return the process of a slot, once it has started."""
    deadline = time.monotonic() + 30
    while not executor.board.pid(slot) and time.monotonic() < deadline:
        time.sleep(0.01)
    return executor.board.pid(slot)


def outcomes(function: object, tasks: range, jobs: int) -> list[Outcome[int, int]]:
    with LocalExecutor(jobs) as executor:
        return sorted(executor.run(function, tasks), key=lambda outcome: outcome.task)  # type: ignore[arg-type]


def test_every_task_yields_its_result() -> None:
    assert [o.result for o in outcomes(square, range(7), jobs=2)] == [n * n for n in range(7)]


def test_a_dead_worker_costs_its_own_task_only_and_is_named() -> None:
    ended = outcomes(crash, range(6), jobs=2)
    assert [o.task for o in ended if o.died] == [2, 4]
    assert "SIGSEGV" in ended[2].died
    assert "SIGKILL" in ended[4].died
    assert "out of memory" in ended[4].died
    assert [o.result for o in ended if not o.died] == [0, 1, 3, 5]


def test_tasks_are_drawn_only_when_a_worker_is_free() -> None:
    drawn: list[int] = []

    def tasks() -> object:
        for number in range(20):
            drawn.append(number)
            yield number

    with LocalExecutor(1) as executor:
        run = executor.run(square, tasks())  # type: ignore[arg-type]
        next(run)
        assert len(drawn) <= 2


def test_cores_of_idle_workers_go_to_the_busy_one() -> None:
    with LocalExecutor(3) as executor:
        (alone,) = executor.run(threads_seen, [1])
    assert alone.result == 3


def test_one_process_may_have_the_cores_of_many() -> None:
    with LocalExecutor(1, threads=3) as executor:
        assert [outcome.result for outcome in executor.run(threads_seen, [1, 1])] == [3, 3]


def test_an_error_in_a_task_reaches_the_caller() -> None:
    with LocalExecutor(1) as executor, pytest.raises(ValueError, match="task 0"):
        list(executor.run(fail, range(1)))


def test_no_jobs_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="jobs must be an integer >= 1, got 0"):
        LocalExecutor(0)


SLEEPERS = """
    import os, sys, time
    from flowkit.executor import LocalExecutor

    def sleep(task, worker):
        print(os.getpid(), flush=True)
        time.sleep(60)

    if __name__ == "__main__":
        with LocalExecutor(2) as executor:
            list(executor.run(sleep, range(2)))
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_coordinator(how: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLEEPERS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    began = time.monotonic()
    process.send_signal(how)
    process.wait(timeout=5)
    process.stdout.close()
    while any(alive(pid) for pid in workers) and time.monotonic() - began < 5:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)
    assert time.monotonic() - began < 2


def test_workers_are_gone_when_the_executor_is_left() -> None:
    with LocalExecutor(2) as executor:
        run = executor.run(pid_then_sleep, range(3))
        first = next(run)
        pids = [executor.board.pid(slot) for slot in range(2)]
        assert first.result in pids
    # Not even a zombie is left: its temporaries are known to be ownerless at once.
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def pid_then_sleep(task: int, worker: Worker) -> int:
    if task:
        time.sleep(60)
    assert isinstance(worker.board, Blackboard)
    while worker.board.active < 2 or not worker.board.pid(1):
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True])
def test_jobs_and_threads_are_whole_numbers(jobs: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"jobs must be an integer >= 1, got"):
        LocalExecutor(jobs)
    for make in (InlineExecutor, lambda threads: LocalExecutor(1, threads=threads)):
        with pytest.raises(InvalidParameterError, match=r"threads must be an integer >= 1, got"):
            make(jobs)


def alone(task: int, worker: Worker) -> int:
    """Do what needs all threads that the system allows."""
    if worker.slot != 0:
        raise SystemLimitError("no thread left")
    return task


def never(task: int, worker: Worker) -> int:
    raise SystemLimitError("no thread left")


def test_tasks_that_need_more_threads_go_on_with_fewer_workers() -> None:
    with pytest.warns(RuntimeWarning, match="fewer than 2 worker processes: no thread left"):
        ended = outcomes(alone, range(5), jobs=2)
    assert [outcome.result for outcome in ended] == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:goes on with fewer:RuntimeWarning")
def test_a_task_that_no_worker_has_threads_for_fails_by_itself() -> None:
    ended = outcomes(never, range(3), jobs=2)
    assert [(outcome.result, outcome.limit) for outcome in ended] == [(None, "no thread left")] * 3
    with InlineExecutor() as executor:
        (inline,) = executor.run(never, [1])
    assert inline.limit == "no thread left"


def refuse_pools(monkeypatch: pytest.MonkeyPatch, error: Exception, count: int) -> None:
    """Let the first pools fail to start."""
    made = []

    def pool(*args: Any, **settings: Any) -> ProcessPoolExecutor:
        made.append(1)
        if len(made) <= count:
            raise error
        return ProcessPoolExecutor(*args, **settings)

    monkeypatch.setattr(slot_module, "ProcessPoolExecutor", pool)


NO_PROCESS = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_workers_that_cannot_start_leave_their_tasks_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_pools(monkeypatch, NO_PROCESS, 2)
    with pytest.warns(RuntimeWarning, match="fewer than 3 worker processes"):
        assert [o.result for o in outcomes(square, range(4), jobs=3)] == [0, 1, 4, 9]


@pytest.mark.filterwarnings("ignore:goes on with fewer:RuntimeWarning")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NO_PROCESS, ["no further process or thread", "--jobs", "ulimit -u"]),
        (RuntimeError("can't start new thread"), ["no further process or thread"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["/dev/shm", "No space left", "--shm-size"]),
        (OSError(errno.EROFS, "Read-only file system"), ["/dev/shm", "Read-only"]),
    ],
)
def test_a_run_without_any_worker_ends_with_the_cause_and_its_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    refuse_pools(monkeypatch, error, 2)
    with pytest.raises(SystemLimitError) as caught:
        outcomes(square, range(1), jobs=2)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.filterwarnings("ignore:goes on with fewer:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_nothing_serves_any_more_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    start, calls = loky_queues.Queue._start_thread, []

    def start_all_but_the_first(queue: Any) -> None:
        calls.append(queue)
        if len(calls) == 1:
            raise RuntimeError("can't start new thread")
        start(queue)

    monkeypatch.setattr(loky_queues.Queue, "_start_thread", start_all_but_the_first)
    assert [o.result for o in outcomes(square, range(4), jobs=2)] == [0, 1, 4, 9]
    assert len(calls) == 2


def test_other_errors_are_no_limits() -> None:
    assert SystemLimitError.of(OSError(errno.EIO, "x")) is None
    assert SystemLimitError.of(ValueError("x")) is None
    locked = "Unable to synchronously open file (unable to lock)"  # by another process, as h5py says it
    assert SystemLimitError.of(BlockingIOError(errno.EAGAIN, locked)) is None
    assert "ulimit -n" in str(SystemLimitError.of(OSError(errno.EMFILE, "Too many open files", "x.avi")))
    assert SystemLimitError.of(RuntimeError("can't start new thread at interpreter shutdown")) is not None


def test_a_function_that_is_loaded_ahead_runs_in_the_same_workers() -> None:
    with LocalExecutor(3) as executor:
        executor.load(square, 2)
        pids = {signed_in(executor, slot) for slot in range(2)}
        assert executor.board.pid(2) == 0
        ended = list(executor.run(where, range(2)))
    assert {outcome.result for outcome in ended} == pids


def test_a_worker_that_died_before_its_first_task_is_replaced() -> None:
    with LocalExecutor(1) as executor:
        executor.load(square, 1)
        os.kill(signed_in(executor, 0), signal.SIGKILL)
        pool = executor._slots[0]._pool
        assert pool is not None
        deadline = time.monotonic() + 30
        while not pool._flags.broken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [outcome.result for outcome in executor.run(square, range(3))] == [0, 1, 4]


def test_workers_that_cannot_start_ahead_are_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_pools(monkeypatch, NO_PROCESS, 1)
    with LocalExecutor(1) as executor:
        executor.load(square, 1)
        assert [outcome.result for outcome in executor.run(square, range(2))] == [0, 1]


def blocked_signals(_: int, __: Worker) -> list[int]:
    return [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])]


def test_workers_never_get_ctrl_c_even_while_they_start() -> None:
    with LocalExecutor(1) as executor:
        (outcome,) = executor.run(blocked_signals, [0])
    assert outcome.result is not None
    assert signal.SIGINT in outcome.result
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "this process hears it"


def steps_or_hang(task: int, worker: Worker) -> int:
    """Report progress for longer than a task may stand still; task 1 hangs instead."""
    for count in range(8):
        worker.report(count, count / 8)
        time.sleep(3600 if task == 1 else 0.25)
    return task


def test_a_task_that_gets_no_further_costs_itself_and_its_worker_is_replaced() -> None:
    with LocalExecutor(1) as executor:
        began = time.monotonic()
        found = list(executor.run(steps_or_hang, range(3), patience=lambda task: 1.0))
        assert time.monotonic() - began < 30
    assert [(one.task, one.result, one.stalled) for one in found] == [
        (0, 0, 0.0),
        (1, None, 1.0),
        (2, 2, 0.0),
    ]


def test_an_interrupt_while_the_workers_end_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    executor = LocalExecutor(1)
    monkeypatch.setattr(slot_module.Slot, "forget", interrupted)
    with pytest.raises(KeyboardInterrupt):
        executor.close()
    assert not executor.board.path.exists()


def test_a_pipe_that_cannot_be_made_is_a_limit_though_loky_fails_over_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_pipe(*_: object) -> None:
        try:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        finally:
            raise UnboundLocalError("child_r")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", no_pipe)
    with LocalExecutor(1) as executor, pytest.raises(SystemLimitError, match="open file"):
        list(executor.run(square, range(1)))
