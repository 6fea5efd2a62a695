from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from flowkit.store.ahead import in_order


def crew() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("crew-")]


def doubled(number: int) -> int:
    return 2 * number


def test_results_come_in_the_order_of_the_items() -> None:
    second_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_done.wait(10)
        if number == 1:
            second_done.set()
        return 2 * number

    assert list(in_order(work, range(50), threads=3, name="crew")) == list(range(0, 100, 2))
    assert list(in_order(work, [], threads=3, name="crew")) == []
    assert crew() == []


def test_as_many_work_at_once_as_were_asked_for() -> None:
    together = threading.Barrier(3, timeout=10)
    assert len(list(in_order(lambda _: together.wait(), range(6), threads=3, name="crew"))) == 6


def test_items_are_drawn_by_the_caller_and_as_they_are_needed() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            assert threading.current_thread() is threading.main_thread()
            drawn.append(number)
            yield number

    results = in_order(doubled, items(), threads=2, name="crew")
    assert [next(results) for _ in range(10)] == list(range(0, 20, 2))
    assert len(drawn) == 10 + 3  # four are out when the first is taken
    results.close()  # type: ignore[attr-defined]
    assert crew() == []


def test_closing_begins_nothing_more() -> None:
    begun: list[int] = []
    go = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            assert go.wait(10)
        return number

    results = in_order(work, range(4), threads=1, name="crew")
    assert next(results) == 0
    go.set()
    results.close()  # type: ignore[attr-defined]
    assert begun in ([0], [0, 1])
    assert crew() == []


def fails_at_2(number: int) -> int:
    if number == 2:
        raise LookupError("two")
    return number


def drawn_until_2() -> Iterator[int]:
    yield from range(2)
    raise LookupError("two")


@pytest.mark.parametrize(("work", "items"), [(fails_at_2, range(9)), (doubled, drawn_until_2())])
def test_an_error_comes_out_and_ends_the_threads(work: Callable[[int], int], items: Iterator[int]) -> None:
    with pytest.raises(LookupError, match="two"):
        list(in_order(work, items, threads=2, name="crew"))
    assert crew() == []
