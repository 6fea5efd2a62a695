from __future__ import annotations

import time

import pytest

from flowkit.extraction.timing import PhaseClock, StageClock, limiting_stage, stage_fps


def test_a_clock_sums_what_it_times_and_what_is_added() -> None:
    clock = StageClock()
    with clock.stage("decode"):
        pass
    timed = clock.seconds["decode"]
    clock.add({"decode": 2.0, "upload": 1.0})
    assert clock.seconds == {"decode": timed + 2.0, "upload": 1.0}
    assert timed > 0


def test_a_stage_that_fails_is_timed_too() -> None:
    clock = StageClock()
    with pytest.raises(ZeroDivisionError), clock.stage("write"):
        raise ZeroDivisionError
    assert clock.seconds["write"] > 0


def test_rates_are_those_of_the_stages_there_are_in_the_order_of_the_work() -> None:
    rates = stage_fps({"write": 2.0, "fingerprint": 1.0, "decode": 4.0, "upload": 0.0}, 8)
    assert list(rates.items()) == [("decode", 2.0), ("write", 4.0)]


@pytest.mark.parametrize(
    ("seconds", "gpu_lanes", "expected"),
    [
        # Without a GPU every stage is on the cores: the longest.
        ({"decode": 3.0, "solve": 8.0, "encode": 7.0}, 0, "solve"),
        # 10 s on 4 cores are 2.5 s; 4 s in 2 lanes are 2 s.
        ({"decode": 7.0, "upload": 0.1, "solve": 4.0, "encode": 3.0}, 2, "decode"),
        ({"decode": 7.0, "upload": 0.1, "solve": 6.0, "encode": 3.0}, 2, "solve"),
        # The CPU engine took the GPU's place: 16 s on 4 cores, most of them for decoding.
        ({"decode": 7.0, "solve": 6.0, "encode": 3.0}, 2, "decode"),
        ({"decode": 7.0, "solve": 1.0, "upload": 9.0}, 2, "upload"),
        # More GPUs.
        ({"decode": 7.0, "upload": 0.1, "solve": 6.0, "encode": 3.0}, 4, "decode"),
        ({"solve": 6.0}, 2, "solve"),
    ],
)
def test_what_limits_is_what_its_cores_or_gpus_are_busy_with(
    seconds: dict[str, float], gpu_lanes: int, expected: str
) -> None:
    assert limiting_stage(seconds, cores=4, gpu_lanes=gpu_lanes) == expected


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        # 12 s on 4 cores are 3 s.
        ({"start": 2.0, "videos": 4.0, "pack": 2.0}, "jpeg"),
        ({"start": 5.0, "videos": 4.0, "pack": 2.0}, "start"),
        ({"start": 2.0, "videos": 4.0, "pack": 6.0}, "pack"),
        ({"start": 2.0, "videos": 7.0, "pack": 2.0}, "waiting"),
        # More threads than cores count more work than fits: nobody waited.
        ({"start": 0.0, "videos": 2.0, "pack": 0.0}, "jpeg"),
        ({}, "jpeg"),
    ],
)
def test_a_run_that_no_stage_filled_is_limited_by_none(phases: dict[str, float], expected: str) -> None:
    seconds = {"decode": 5.0, "jpeg": 7.0, "solve": 1.0}
    assert limiting_stage(seconds, cores=4, gpu_lanes=2, phases=phases) == expected


def test_the_phases_of_a_run_are_divided_by_its_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = PhaseClock()
    assert clock.phases() == {}
    for now[0], seconds in ((14.0, 1.5), (15.0, 4.0)):
        clock.end_video(seconds)
    now[0] = 18.0
    assert clock.phases() == {"start": 2.5, "videos": 2.5, "pack": 3.0}


@pytest.mark.parametrize(
    ("videos", "expected"),
    # A decoder has one core: one video's takes as long as it works.
    [(1, "decode"), (4, "waiting"), (None, "waiting")],
)
def test_the_decoder_of_one_video_limits_and_nobody_is_said_to_wait(
    videos: int | None, expected: str
) -> None:
    seconds = {"decode": 9.5, "jpeg": 3.0, "encode": 2.0}
    phases = {"start": 0.5, "videos": 10.0, "pack": 0.1}
    assert limiting_stage(seconds, cores=16, videos=videos, phases=phases) == expected
