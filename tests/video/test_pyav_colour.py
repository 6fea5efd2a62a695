"""Frames to RGB: every format, a matrix without a conversion, and the frames that OpenCV changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from flowkit.errors import DecodeError
from flowkit.video.pyav_colour import RgbConverter, unlike_opencv


def grey_frame(level: int = 128, form: str = "yuv420p") -> VideoFrame:
    picture = np.full((16, 24, 3), level, np.uint8)
    return VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form)


@pytest.mark.parametrize("form", ["yuv420p", "yuv444p", "yuv420p10le", "gray", "rgb24"])
def test_grey_stays_grey_in_every_format(form: str) -> None:
    rgb = RgbConverter(Path("a.mp4")).convert(grey_frame(128, form))
    assert rgb.shape == (16, 24, 3)
    assert rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - 128).max() <= 2


def test_red_comes_first() -> None:
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[..., 0] = 200
    rgb = RgbConverter(Path("a.mp4")).convert(VideoFrame.from_ndarray(picture, format="rgb24"))
    np.testing.assert_array_equal(rgb, picture)


def test_a_matrix_without_a_conversion_is_read_as_one_near_to_it_with_one_remark() -> None:
    converter = RgbConverter(Path("a.mp4"))
    for _ in range(2):
        frame = grey_frame()
        frame.colorspace = 8  # YCgCo
        assert np.abs(converter.convert(frame).astype(int) - 128).max() <= 2
    assert converter.notes == ["the colour matrix 8 has no conversion and is read as ITU601"]


def test_a_frame_that_does_not_convert_names_file_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, frame: object) -> VideoFrame:
        raise av.error.InvalidDataError(1094995529, "Invalid data found")

    monkeypatch.setattr(RgbConverter, "_reformatted", refuse)
    with pytest.raises(DecodeError, match=r"a\.mp4: yuv420p does not convert to RGB"):
        RgbConverter(Path("a.mp4")).convert(grey_frame())


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"color_primaries": 1, "color_trc": 1}, ""),
        ({"interlaced_frame": True}, "does not convert interlaced frames"),
        ({"color_primaries": 9, "color_trc": 16}, "primaries BT2020, transfer SMPTE2084"),
        ({"color_primaries": 99, "color_trc": 1}, "primaries 99"),
    ],
)
def test_frames_that_opencv_gives_otherwise_are_told_by_word(facts: dict[str, Any], words: str) -> None:
    standard = {"interlaced_frame": False, "color_primaries": 2, "color_trc": 2}
    said = unlike_opencv(SimpleNamespace(**(standard | facts)))  # type: ignore[arg-type]
    assert (words in said) if words else said == ""
