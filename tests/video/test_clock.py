from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.video.clock import Clock


def read(
    stored: list[float | None], period: float = 0.1, longest_gap: float = math.inf
) -> tuple[list[float], list[bool]]:
    clock = Clock(period, longest_gap)
    times, repaired = zip(*map(clock.read, stored), strict=True)
    return list(times), list(repaired)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, unique=True).map(sorted))
def test_rising_times_are_left_alone(stored: list[float]) -> None:
    assert read(list(stored)) == (stored, [False] * len(stored))


# Ticks of a millisecond, as files have them: below, floating point could lose a step.
@given(st.lists(st.one_of(st.none(), st.integers(-10_000, 10_000)), min_size=1))
def test_any_times_are_made_to_rise(ticks: list[int | None]) -> None:
    times, repaired = read([None if tick is None else tick / 1000 for tick in ticks])
    assert all(a < b for a, b in itertools.pairwise(times))
    for tick, time, changed in zip(ticks, times, repaired, strict=True):
        assert changed == (tick is None or time != tick / 1000)


def test_missing_times_follow_the_rate() -> None:
    times, repaired = read([None, None, 0.2, None, 0.4])
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert repaired == [True, True, False, True, False]


def test_stutter_is_over_with_the_next_good_time() -> None:
    times, repaired = read([0.0, 0.1, 0.3, 0.2, 0.4, 0.5])
    assert times == pytest.approx([0, 0.1, 0.3, 0.35, 0.4, 0.5])
    assert repaired == [False, False, False, True, False, False]


def test_clock_set_back_runs_on_with_its_own_intervals() -> None:
    times, repaired = read([10.0, 10.1, 0.0, 0.05, 0.3])
    assert times == pytest.approx([10, 10.1, 10.2, 10.25, 10.5])
    assert repaired == [False, False, True, True, True]


def test_clock_set_forward_runs_on_with_its_own_intervals() -> None:
    times, repaired = read([0.0, 0.1, 600.0, 600.05, 600.3], longest_gap=10)
    assert times == pytest.approx([0, 0.1, 0.2, 0.25, 0.5])
    assert repaired == [False, False, True, True, True]


def test_gap_that_is_not_too_long_is_true() -> None:
    assert read([0.0, 0.1, 10.0, 20.0], longest_gap=10) == ([0.0, 0.1, 10.0, 20.0], [False] * 4)


def test_slide_show_has_no_jumps() -> None:
    stored: list[float | None] = [0.0, 15.0, 30.0, 90.0]
    assert read(stored, period=15.0, longest_gap=10) == (stored, [False] * 4)


def test_one_time_that_is_far_off_costs_itself_alone() -> None:
    times, repaired = read([0.0, 0.1, 9000.0, 0.3, 0.4, 0.5], longest_gap=10)
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert repaired[:3] == [False, False, True]


def test_jumps_are_counted_and_stutters_are_not() -> None:
    clock = Clock(0.1, 10)
    for stored in (0.0, 0.1, 0.1, 0.3, 700.3, 1.0):
        clock.read(stored)
    assert clock.jumps == 2
    assert clock.first_jump == pytest.approx((0.3, 700))
    assert clock.mended(1.1) == pytest.approx(0.6)


# Ticks of a 90 kHz clock of 33 bits.
@given(st.lists(st.integers(0, 2**33 - 1), min_size=1, max_size=50))
def test_no_clock_makes_a_video_longer_than_its_gaps(ticks: list[int]) -> None:
    times, _ = read([tick / 90_000 for tick in ticks], period=0.04, longest_gap=10)
    assert all(0 < b - a <= 10.001 for a, b in itertools.pairwise(times))
