from __future__ import annotations

import pytest

from flowkit.errors import InvalidParameterError
from flowkit.video.orientation import Orientation
from flowkit.video.source import VideoInfo

FACTS: dict[str, object] = {
    "codec": "h264",
    "pixel_format": "yuv420p",
    "width": 320,
    "height": 240,
    "rotation": 0,
    "fps": 25.0,
    "header_frames": None,
    "header_seconds": None,
    "stream_index": 0,
    "container": "avi",
    "origin_seconds": 0.0,
    "decoder": "av",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_aspect": 0.0},
        {"width": 0},
        {"height": -1},
        {"rotation": 45},
        {"rotation": 360},
        {"fps": 0.0},
        {"fps": float("inf")},
    ],
)
def test_impossible_facts_are_refused(wrong: dict[str, object]) -> None:
    VideoInfo(**FACTS)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError):
        VideoInfo(**FACTS | wrong)  # type: ignore[arg-type]


def test_orientation_is_that_of_rotation_and_mirror() -> None:
    info = VideoInfo(**FACTS | {"rotation": 90, "mirrored": True})  # type: ignore[arg-type]
    assert info.orientation == Orientation(rotation=90, mirrored=True)
    assert VideoInfo(**FACTS).orientation == Orientation()  # type: ignore[arg-type]
