from __future__ import annotations

import math
from pathlib import Path

import pytest

from flowkit.extraction.patience import patience_seconds, source_bytes
from flowkit.extraction.sources import VideoSource


@pytest.mark.parametrize(
    ("asked", "nbytes", "seconds"),
    [(None, 0, 600), (None, 3_600_000_000, 4200), (30.0, 3_600_000_000, 30), (0.0, 1, math.inf)],
)
def test_a_video_is_waited_for_by_its_size_unless_a_time_is_given(
    asked: float | None, nbytes: int, seconds: float
) -> None:
    assert patience_seconds(asked, nbytes) == seconds


def test_the_size_of_a_folder_of_images_is_that_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.jpg").write_bytes(bytes(10))
    assert source_bytes(VideoSource(path=folder, video_id="a")) == 31
    assert source_bytes(VideoSource(path=folder / "0.jpg", video_id="b")) == 11
    assert source_bytes(VideoSource(path=tmp_path / "gone.mp4", video_id="c")) == 1
