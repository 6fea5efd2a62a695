from __future__ import annotations

import itertools

import pytest

from flowkit.store.record import VideoRecord
from flowkit.store.tools import check_file
from tests.store.conftest import make_record


def records(*n_frames: int) -> list[VideoRecord]:
    """Return records of videos of 100 pixels."""
    return [make_record(f"v{k}", width=10, height=10, n_frames=n) for k, n in enumerate(n_frames)]


@pytest.mark.parametrize(
    ("n_frames", "sizes"),
    [
        ((), []),
        ((1,), [1]),
        ((4, 6, 9, 1, 3), [2, 2, 1]),  # a task is full at 1,000 pixels
        ((50, 1, 1, 1, 1), [1, 3, 1]),  # or at three videos
    ],
)
def test_videos_of_a_task_are_bounded_by_pixels_and_by_number(
    monkeypatch: pytest.MonkeyPatch, n_frames: tuple[int, ...], sizes: list[int]
) -> None:
    monkeypatch.setattr(check_file, "PIXELS_A_TASK", 1000)
    monkeypatch.setattr(check_file, "MOST_VIDEOS_A_TASK", 3)
    asked = records(*n_frames)
    groups = list(check_file._grouped(asked))
    assert [len(group) for group in groups] == sizes
    assert list(itertools.chain.from_iterable(groups)) == asked
