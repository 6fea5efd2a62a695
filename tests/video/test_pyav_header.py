"""Facts of a header: counts, lengths and rates as files have them, right or wrong."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from flowkit.video.pyav_header import expected_packets, frame_rate, header_frames, header_seconds
from flowkit.video.source import DEFAULT_FPS


def stream(**facts: object) -> Any:
    standard: dict[str, object] = {"frames": 0, "metadata": {}, "duration": None, "time_base": None}
    return SimpleNamespace(**(standard | facts))


def container(name: str = "avi", *, duration: int | None = None, streams: int = 1) -> Any:
    return SimpleNamespace(format=SimpleNamespace(name=name), duration=duration, streams=[None] * streams)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"frames": 164}, 164),
        ({"metadata": {"NUMBER_OF_FRAMES": "50"}}, 50),
        ({"metadata": {"NUMBER_OF_FRAMES": "many"}}, None),
        ({"metadata": {"NUMBER_OF_FRAMES": "-5"}}, None),
        ({}, None),
    ],
)
def test_frames_are_counted_by_the_header_or_by_mkvmerges_tag(
    facts: dict[str, object], expected: int | None
) -> None:
    assert header_frames(stream(**facts)) == expected


def test_packets_of_mov_are_those_of_its_index_since_edit_lists_hide_some() -> None:
    video = stream(frames=30, index_entries=[None] * 32)
    assert expected_packets(container("mov,mp4,m4a,3gp,3g2,mj2"), video) == 32
    assert expected_packets(container("avi"), video) == 30
    assert expected_packets(container("mov,mp4"), stream(index_entries=[])) is None


@pytest.mark.parametrize(
    ("facts", "of_container", "expected"),
    [
        ({"duration": 90_000, "time_base": Fraction(1, 90_000)}, {}, 1.0),
        ({"metadata": {"DURATION": "01:02:03.500000000"}}, {}, 3723.5),
        ({"metadata": {"DURATION": "soon"}}, {"duration": 2_000_000}, 2.0),
        # With sound beside it the container's may be that of the sound.
        ({}, {"duration": 2_000_000, "streams": 2}, None),
        ({}, {}, None),
    ],
)
def test_seconds_are_the_streams_and_the_containers_only_where_it_is_alone(
    facts: dict[str, object], of_container: dict[str, Any], expected: float | None
) -> None:
    assert header_seconds(container(**of_container), stream(**facts)) == expected


@pytest.mark.parametrize(
    ("average", "guessed", "expected"),
    [
        (Fraction(30000, 1001), Fraction(30), 30000 / 1001),
        # Raw DV has the rate of its clock as average.
        (Fraction(60000), Fraction(25), 25.0),
        (Fraction(50), Fraction(25), 50.0),
        (None, Fraction(24), 24.0),
        (None, None, DEFAULT_FPS),
    ],
)
def test_the_rate_is_the_average_unless_it_is_impossible(
    average: Fraction | None, guessed: Fraction | None, expected: float
) -> None:
    assert frame_rate(stream(average_rate=average, guessed_rate=guessed)) == expected
