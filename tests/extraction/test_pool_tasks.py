from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flowkit.extraction.pool_tasks import FRAMES_A_TASK, IN_PLACE, JpegTask, ThreadLimit

PATIENCE_S = 20


class Crowd:
    """Threads that want through a limit, and stay inside until they are let go."""

    def __init__(self, limit: ThreadLimit, count: int) -> None:
        self.inside = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self._limit = limit
        self._threads = [threading.Thread(target=self._go, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _go(self) -> None:
        with self._limit:
            self.inside.release()
            assert self.leave.acquire(timeout=PATIENCE_S)

    def enter(self, timeout: float = PATIENCE_S) -> bool:
        """Return whether one more is inside."""
        return self.inside.acquire(timeout=timeout)

    def end(self) -> None:
        self.leave.release(len(self._threads))
        for thread in self._threads:
            thread.join(PATIENCE_S)


def test_no_more_threads_are_inside_than_the_limit() -> None:
    crowd = Crowd(ThreadLimit(lambda: 2), 4)
    assert crowd.enter()
    assert crowd.enter()
    assert not crowd.enter(timeout=0.5)
    crowd.leave.release()
    assert crowd.enter()
    crowd.end()


def test_a_limit_that_rises_lets_in_those_that_wait() -> None:
    most = 1
    crowd = Crowd(ThreadLimit(lambda: most), 3)
    assert crowd.enter()
    assert not crowd.enter(timeout=0.5)
    most = 3
    assert crowd.enter()
    assert crowd.enter()
    crowd.end()


def test_who_leaves_wakes_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = ThreadLimit(lambda: 1)
    changed = limit._changed
    monkeypatch.setattr(changed, "wait", lambda timeout: threading.Condition.wait(changed, PATIENCE_S))
    crowd = Crowd(limit, 2)
    assert crowd.enter()
    crowd.leave.release()
    assert crowd.enter(timeout=PATIENCE_S / 4)  # and not at its next look
    crowd.end()


def test_what_is_submitted_in_place_runs_at_once_in_this_thread() -> None:
    ran: list[int] = []

    def work(left: int, *, right: int) -> int:
        ran.append(threading.get_ident())
        return left - right

    future = IN_PLACE.submit(work, 5, right=2)
    assert ran == [threading.get_ident()]
    assert future.done()
    assert future.result() == 3


def test_an_error_in_place_is_raised_where_the_result_is_asked_for() -> None:
    future = IN_PLACE.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        future.result()


def test_frames_of_a_task_are_encoded_together_and_found_by_position() -> None:
    calls: list[int] = []

    def encode(rgbs: list[np.ndarray]) -> list[bytes | None]:
        calls.append(len(rgbs))
        return [rgb.tobytes() for rgb in rgbs]

    task = JpegTask()
    for k in range(FRAMES_A_TASK):
        assert not task.is_full
        task.rgbs.append(np.full((1, 1, 3), k, np.uint8))
    assert task.is_full
    with ThreadPoolExecutor(1) as pool:
        task.submit(pool, encode)
        found = [task.result(k) for k in reversed(range(FRAMES_A_TASK))]
    assert calls == [FRAMES_A_TASK]
    assert found == [bytes([k] * 3) for k in reversed(range(FRAMES_A_TASK))]
    assert task.rgbs == []  # they need not be kept until the video ends
