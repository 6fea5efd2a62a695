"""Work that several threads do ahead of who takes its results, in order.

Reading a clip takes two milliseconds, so that what is spent on handing it over counts: by these
queues, whose calls are single steps in C, two threads take 4 % more CPU time a clip than one; by
`ThreadPoolExecutor`, with its locks and conditions in Python, 9 %.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Made = TypeVar("Made")

_EACH = 2
"""Items out at once, for each thread: one in hand, and one for when that is done, so that no thread
idles until the caller is given the processor."""


def in_order(
    work: Callable[[Asked], Made], items: Iterable[Asked], *, threads: int, name: str
) -> Iterator[Made]:
    """Yield what `work` makes of each item, in their order.

    Parameters
    ----------
    items
        Drawn in the caller's thread as they are needed, so that they may be without end.
    threads
        How many work at a time; each has at most one more item waiting.
    name
        Of the threads.

    Raises
    ------
    BaseException
        Whatever `work` or `items` raise, at the place of the item.
    """
    crew = _Crew(work, threads, name)
    waiting: deque[_Answer[Made]] = deque()
    try:
        for item in items:
            waiting.append(crew.ask(item))
            if len(waiting) >= _EACH * threads:  # bounded: what nobody has taken yet takes memory
                yield waiting.popleft().take()
        while waiting:
            yield waiting.popleft().take()
    finally:
        crew.stop()


class _Answer(Generic[Made]):
    """What becomes of one item: put once, taken once."""

    def __init__(self) -> None:
        self._made: SimpleQueue[tuple[Made] | BaseException] = SimpleQueue()

    def make(self, work: Callable[[Asked], Made], item: Asked) -> None:
        try:
            self._made.put((work(item),))
        except BaseException as error:  # raised where the answer is taken
            self._made.put(error)

    def take(self) -> Made:
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made[0]


class _Crew(Generic[Asked, Made]):
    """Threads that answer."""

    def __init__(self, work: Callable[[Asked], Made], threads: int, name: str) -> None:
        self._work = work
        self._asked: SimpleQueue[tuple[_Answer[Made], Asked] | None] = SimpleQueue()
        # Daemons: an iterator that is never finished must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._answer, name=f"{name}-{k}", daemon=True) for k in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, item: Asked) -> _Answer[Made]:
        answer = _Answer[Made]()
        self._asked.put((answer, item))
        return answer

    def stop(self) -> None:
        """Drop what was not begun, and wait for what was."""
        try:
            while True:
                self._asked.get_nowait()
        except Empty:
            pass
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def _answer(self) -> None:
        while (asked := self._asked.get()) is not None:
            answer, item = asked
            answer.make(self._work, item)
