from __future__ import annotations

import numpy as np
import pytest

from flowkit.errors import InvalidParameterError
from flowkit.video.source import VideoInfo, right_angle, turn

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
    [{"width": 0}, {"height": -1}, {"rotation": 45}, {"rotation": 360}, {"fps": 0.0}, {"fps": float("inf")}],
)
def test_impossible_facts_are_refused(wrong: dict[str, object]) -> None:
    VideoInfo(**FACTS)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError):
        VideoInfo(**FACTS | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_turning_is_clockwise(quarter: int) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(turn(image, 90 * quarter), np.rot90(image, -quarter))


@pytest.mark.parametrize(
    ("degrees", "turned"),
    [(0, 0), (-90, 270), (90, 90), (180, 180), (-180, 180), (270, 270), (359.9, 0), (-89.6, 270)],
)
def test_angles_round_to_quarter_turns(degrees: float, turned: int) -> None:
    assert right_angle(degrees) == turned
