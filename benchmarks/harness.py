"""One way to time things against each other: interleaved rounds, one core, medians with their spread.

A section of the benchmarks is a list of `Case`s and one call:

    result = run("what it answers", [Case(name="ours", work=...), Case(name="theirs", work=...)],
                 rounds=7, rival="theirs")
    write_result("section", result)

Each case runs once to warm up. Then every round runs each case once, beginning with another one each
time, so that slow changes of the machine come to all. Times are CPU seconds (this process's and those of
the commands that it waited for) and wall seconds, a unit of work; what a case returns goes through its
`accuracy` outside the clock. A ratio is a case's time over the rival's in the same round; what counts is
the median of the ratios, and their quartiles are its spread. A slow case may take part in the first few
rounds alone (`Case.rounds`): its ratios are of these rounds. All run on one core (`cores="one"`), where
the system can hold a process there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2

from benchmarks.record import JsonObject


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One contender.

    Parameters
    ----------
    name : str
    work : callable
        What is timed; `command` makes one of a command line.
    units : float
        Units of work in a call (pairs, frames): times are divided by it.
    rounds : int, optional
        Rounds that it takes part in, the first ones; default: all.
    accuracy : callable, optional
        Takes what `work` returned in the first round and returns the values that stand beside the times.
    warm_up : callable, optional
        Runs before the first round; default: `work`. A slow case gives a smaller one.
    """

    name: str
    work: Callable[[], Any]
    units: float = 1.0
    rounds: int | None = None
    accuracy: Callable[[Any], JsonObject] | None = None
    warm_up: Callable[[], Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Seconds:
    """CPU and wall time, s."""

    cpu: float
    wall: float


Clock = Callable[[], Seconds]
Samples = dict[str, list[Seconds]]
"""By case: the seconds a unit of work, round by round."""


def now() -> Seconds:
    """Return the CPU time of this process and of its ended children, and the wall's."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(time.process_time() + ended.ru_utime + ended.ru_stime, time.perf_counter())


def command(
    words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Callable[[], None]:
    """Return a command line as work, with further environment variables; its failure is an error."""
    line, added = list(map(str, words)), dict(env or {})

    def work() -> None:
        done = subprocess.run(
            line, env=os.environ | added, cwd=cwd, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(line)}: status {done.returncode}\n{done.stderr[-2000:]}")

    return work


@contextlib.contextmanager
def one_core() -> Iterator[int | None]:
    """Hold this process and those it starts on one core, cv2 with one thread; yield the core, if it can."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if not hasattr(os, "sched_setaffinity"):
            yield None
            return
        allowed = os.sched_getaffinity(0)
        core = max(allowed)
        os.sched_setaffinity(0, {core})
        try:
            yield core
        finally:
            os.sched_setaffinity(0, allowed)
    finally:
        cv2.setNumThreads(threads)


def order(cases: Sequence[Case], number: int) -> list[Case]:
    """Return the cases of a round: those that still take part, beginning with another one each round."""
    first = number % len(cases)
    turned = [*cases[first:], *cases[:first]]
    return [case for case in turned if case.rounds is None or number < case.rounds]


def measure(
    cases: Sequence[Case], *, rounds: int, clock: Clock = now, on_round: Callable[[int], None] | None = None
) -> tuple[Samples, dict[str, JsonObject]]:
    """Run the warm-up and the rounds; return the samples, and the accuracy of each case that has one."""
    accuracy: dict[str, JsonObject] = {}
    samples: Samples = {case.name: [] for case in cases}
    for case in cases:
        (case.warm_up or case.work)()
    for number in range(rounds):
        for case in order(cases, number):
            before = clock()
            made = case.work()
            after = clock()
            seconds = Seconds((after.cpu - before.cpu) / case.units, (after.wall - before.wall) / case.units)
            samples[case.name].append(seconds)
            if case.accuracy is not None and case.name not in accuracy:
                accuracy[case.name] = case.accuracy(made)
        if on_round is not None:
            on_round(number)
    return samples, accuracy


def spread(values: Sequence[float]) -> JsonObject:
    """Return median, quartiles and range, and the values themselves in their order."""
    several = len(values) > 1
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if several else (values[0],) * 3
    return {
        "median": middle,
        "quartiles": [low, high],
        "range": [min(values), max(values)],
        "values": list(values),
    }


def ratios(mine: Sequence[Seconds], theirs: Sequence[Seconds]) -> JsonObject:
    """Return the spread of mine over theirs, round by round, as far as both took part."""
    both = list(zip(mine, theirs, strict=False))
    return {
        "cpu": spread([one.cpu / other.cpu for one, other in both]),
        "wall": spread([one.wall / other.wall for one, other in both]),
    }


def table(samples: Samples, accuracy: Mapping[str, JsonObject], *, rivals: Sequence[str]) -> JsonObject:
    """Return a row a case: CPU and wall seconds a unit, ratios to each rival, accuracy."""
    rows: JsonObject = {}
    for name, taken in samples.items():
        rows[name] = {
            "rounds": len(taken),
            "cpu_s": spread([seconds.cpu for seconds in taken]),
            "wall_s": spread([seconds.wall for seconds in taken]),
            "ratio to": {other: ratios(taken, samples[other]) for other in rivals if other != name},
            **accuracy.get(name, {}),
        }
    return rows


def run(
    question: str,
    cases: Sequence[Case],
    *,
    rounds: int,
    rival: str | Sequence[str] = (),
    cores: Literal["one", "all"] = "one",
    on_round: Callable[[int], None] | None = None,
) -> JsonObject:
    """Measure the cases and return a section for `write_result`.

    Parameters
    ----------
    question : str
        What the section answers.
    cases : sequence of Case
        Their names differ.
    rounds : int
        Beside the warm-up, at least 1.
    rival : str or sequence of str
        Names of the cases that the others' times are divided by.
    cores : {"one", "all"}
        "all": processes stay where the system puts them.
    on_round : callable, optional
        Takes the number of each round that ended.
    """
    before = os.getloadavg()
    held = one_core() if cores == "one" else contextlib.nullcontext(None)
    with held as core:
        samples, accuracy = measure(cases, rounds=rounds, on_round=on_round)
    rivals = [rival] if isinstance(rival, str) else list(rival)
    return {
        "question": question,
        "rounds": rounds,
        "core": core if cores == "one" else "all",
        "load_average_before": list(before),
        "load_average_after": list(os.getloadavg()),
        "cases": table(samples, accuracy, rivals=rivals),
    }


def shown(value: JsonObject, *, scale: float = 1.0) -> str:
    """Return a spread as "median (lower quartile to upper)", three digits each."""
    low, high = (figure(scale * each) for each in value["quartiles"])
    return f"{figure(scale * value['median'])} ({low} to {high})"


def figure(value: float) -> str:
    """Return three digits of a number, without an exponent and without a zero before the point."""
    text = f"{float(f'{value:.3g}'):g}"
    return text.removeprefix("0") if text.startswith("0.") else text
