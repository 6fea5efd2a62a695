"""The harness: order of the rounds, medians, ratios, accuracy, commands; with a clock that counts."""

from __future__ import annotations

import os
import sys

import pytest

from benchmarks.harness import (
    Case,
    Seconds,
    command,
    figure,
    measure,
    now,
    one_core,
    order,
    ratios,
    run,
    shown,
    spread,
    table,
)


class CountedClock:
    """A clock that stands still but for what cases add to it."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __call__(self) -> Seconds:
        return Seconds(self.cpu, self.wall)

    def takes(self, cpu: float, wall: float | None = None) -> None:
        self.cpu += cpu
        self.wall += cpu if wall is None else wall


def named(names: str) -> list[Case]:
    return [Case(name=name, work=lambda: None) for name in names]


def test_each_round_begins_with_another_case() -> None:
    cases = named("abc")
    rounds = ["".join(case.name for case in order(cases, number)) for number in range(4)]
    assert rounds == ["abc", "bca", "cab", "abc"]


def test_a_slow_case_takes_part_in_the_first_rounds_alone() -> None:
    cases = [*named("ab"), Case(name="slow", work=lambda: None, rounds=1)]
    samples, _ = measure(cases, rounds=3, clock=CountedClock())
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 3, "b": 3, "slow": 1}


def test_all_cases_warm_up_before_any_is_timed() -> None:
    clock, calls = CountedClock(), []

    def work(name: str) -> None:
        calls.append(name)
        clock.takes(100.0 if len(calls) <= 2 else 1.0)

    cases = [Case(name="a", work=lambda: work("a")), Case(name="b", work=lambda: work("b"))]
    samples, _ = measure(cases, rounds=2, clock=clock)
    assert "".join(calls) == "ab" + "ab" + "ba"
    assert samples["a"] == [Seconds(1.0, 1.0)] * 2


def test_seconds_are_a_unit_of_work_and_cpu_is_apart_from_wall() -> None:
    clock = CountedClock()
    samples, _ = measure(
        [Case(name="a", work=lambda: clock.takes(6.0, 12.0), units=3)], rounds=1, clock=clock
    )
    assert samples["a"] == [Seconds(2.0, 4.0)]


def test_a_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() -> None:
    mine = [Seconds(cpu, 1.0) for cpu in (1.0, 4.0, 30.0)]
    theirs = [Seconds(cpu, 2.0) for cpu in (2.0, 4.0, 10.0)]
    found = ratios(mine, theirs)
    assert found["cpu"]["values"] == [0.5, 1.0, 3.0]
    assert (found["cpu"]["median"], found["cpu"]["range"]) == (1.0, [0.5, 3.0])
    assert found["wall"]["median"] == 0.5


def test_ratios_to_a_slow_rival_are_of_its_own_rounds() -> None:
    samples = {"fast": [Seconds(1.0, 1.0), Seconds(8.0, 8.0)], "slow": [Seconds(4.0, 4.0)]}
    rows = table(samples, {"fast": {"aee_px": 0.1}}, rivals=["slow"])
    assert rows["fast"]["ratio to"]["slow"]["cpu"]["values"] == [0.25]
    assert (rows["fast"]["rounds"], rows["fast"]["aee_px"]) == (2, 0.1)
    assert rows["slow"]["ratio to"] == {}


def test_the_spread_is_quartiles_and_range() -> None:
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found["median"], found["quartiles"], found["range"]) == (3.0, [2.0, 4.0], [1.0, 5.0])
    assert spread([7.0])["quartiles"] == [7.0, 7.0]


def test_accuracy_comes_from_the_first_round_and_costs_no_time() -> None:
    clock = CountedClock()

    def accuracy(made: int) -> dict[str, int]:
        clock.takes(50.0)
        return {"value": made}

    made = iter([7, 8])
    case = Case(name="a", work=lambda: next(made), warm_up=lambda: None, accuracy=accuracy)
    samples, found = measure([case], rounds=2, clock=clock)
    assert found == {"a": {"value": 7}}
    assert samples["a"] == [Seconds(0.0, 0.0)] * 2


def test_a_run_has_question_load_and_a_row_a_case() -> None:
    seen: list[int] = []
    words = [sys.executable, "-c", "sum(range(10**6))"]
    cases = [Case(name="a", work=command(words)), Case(name="b", work=lambda: sum(range(1000)))]
    found = run("which", cases, rounds=2, rival="b", on_round=seen.append)
    assert (found["question"], seen, list(found["cases"])) == ("which", [0, 1], ["a", "b"])
    assert found["cases"]["a"]["cpu_s"]["median"] > 0  # the command's own, not this process's
    assert len(found["load_average_before"]) == len(found["load_average_after"]) == 3


def test_a_command_sees_further_variables_and_its_failure_is_an_error() -> None:
    code = "import os, sys; sys.exit(os.environ['FLOWKIT_WORD'])"
    with pytest.raises(SystemExit, match="status 1\nhere"):
        command([sys.executable, "-c", code], env={"FLOWKIT_WORD": "here"})()


def test_one_core_is_held_and_given_back() -> None:
    before = os.sched_getaffinity(0)
    with one_core() as core:
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_the_clock_goes_on() -> None:
    before = now()
    after = now()
    assert after.cpu >= before.cpu
    assert after.wall > before.wall


def test_figures_have_three_digits_and_no_exponent() -> None:
    assert [figure(value) for value in (1234.5, 12.345, 0.12345, 1.0)] == ["1230", "12.3", ".123", "1"]
    assert shown(spread([0.001, 0.002, 0.003]), scale=1e3) == "2 (1.5 to 2.5)"
