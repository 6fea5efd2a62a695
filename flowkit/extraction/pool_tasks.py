"""Tasks in the pool of a video: frames encoded several at a time, and a limit of threads that may change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from flowkit.typing import UInt8

T = TypeVar("T")

FRAMES_A_TASK = 8
"""Frames that one task encodes: of tiny ones, a task each took longer than the encoding."""


class ThreadLimit:
    """A semaphore for `limit()` threads at a time; the limit may change while they wait."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._inside = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            while self._inside >= self._limit():
                # Cores that another worker freed are noticed at the next test.
                self._changed.wait(timeout=0.2)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify()


class InPlace(Executor):
    """Runs what is submitted at once, in the calling thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Return a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # raised where the result is asked for, as a pool has it
            future.set_exception(error)
        return future


IN_PLACE = InPlace()


class JpegTask:
    """Some consecutive frames that one task of the pool encodes."""

    __slots__ = ("_future", "rgbs")

    def __init__(self) -> None:
        self.rgbs: list[UInt8] = []
        self._future: Future[list[bytes | None]] | None = None

    @property
    def is_full(self) -> bool:
        """True if it has as many frames as a task encodes."""
        return len(self.rgbs) >= FRAMES_A_TASK

    def submit(self, pool: Executor, encode: Callable[[list[UInt8]], list[bytes | None]]) -> None:
        """Have the frames encoded; no more may be added."""
        self._future, self.rgbs = pool.submit(encode, self.rgbs), []

    def result(self, position: int) -> bytes | None:
        """Return a frame's JPEG, once it is there."""
        assert self._future is not None, "submitted with its chunk"
        return self._future.result()[position]
