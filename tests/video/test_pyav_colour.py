"""Frames to RGB: every format, a matrix without a conversion, and the frames that OpenCV changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from flowkit.errors import DecodeError
from flowkit.video import reader as video
from flowkit.video.pyav_colour import RgbConverter, unlike_opencv
from tests.make import clips


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
    class Refusing:
        def reformat(self, *_: object, **__: object) -> VideoFrame:
            raise av.error.InvalidDataError(1094995529, "Invalid data found")

    monkeypatch.setattr("flowkit.video.pyav_colour.VideoReformatter", Refusing)
    with pytest.raises(DecodeError, match=r"a\.mp4: yuv420p does not convert to RGB"):
        RgbConverter(Path("a.mp4")).convert(grey_frame())
    with pytest.raises(DecodeError, match=r"a\.mp4: yuv420p does not convert to RGB"):
        RgbConverter(Path("a.mp4")).scale(grey_frame(), (5, 5))


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


def planes_of(form: str, width: int, height: int, levels: tuple[int, ...]) -> VideoFrame:
    """A frame whose planes have one value each."""
    frame = VideoFrame(width, height, form)
    kind = np.uint16 if "10" in form else np.uint8
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, level, kind).tobytes())
    return frame


@pytest.mark.parametrize(
    ("form", "levels"),
    [
        ("yuv420p", (100, 140, 90)),
        ("yuv422p", (100, 140, 90)),
        ("yuv444p", (100, 140, 90)),
        ("yuvj420p", (100, 140, 90)),
        ("yuv411p", (100, 140, 90)),
        ("yuv420p10le", (400, 560, 360)),
        ("gray", (100,)),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(64, 48), (121, 81), (339, 255)])
def test_a_frame_of_one_colour_stays_of_it_at_any_size(
    form: str, levels: tuple[int, ...], width: int, height: int
) -> None:
    frame, converter = planes_of(form, width, height, levels), RgbConverter(Path("a.mp4"))
    sizes = [
        (width - 1, height - 1),
        (width // 2, height // 2),
        (37, 29),
        (width // 10, height // 10),
        (1, 1),
    ]
    sizes += [(width + 5, height - 3), (width, height - 1), (2 * width, 2 * height)]
    seen: list[np.ndarray] = []
    for size in sizes:
        rgb = converter.scale(frame, size)
        assert rgb.shape == (size[1], size[0], 3)
        assert (rgb == rgb[0, 0]).all()
        seen.append(rgb[0, 0])
    colours = np.array(seen, int)
    assert np.ptp(colours, axis=0).max() <= 1
    # OpenCV's way truncates.
    assert np.abs(colours - converter.convert(frame)[0, 0]).max() <= 2


@pytest.mark.parametrize("size", [(341, 256), (479, 359), (240, 180), (431, 323), (68, 51), (520, 340)])
def test_scaling_shifts_nothing(size: tuple[int, int]) -> None:
    width, height, x, y = 480, 360, 177.3, 219.6
    down, right = np.mgrid[:height, :width]
    spread = 6 * max(1.0, width / size[0])
    spot = 200 * np.exp(-((right - x) ** 2 + (down - y) ** 2) / (2 * spread**2)) + 20
    frame = VideoFrame.from_ndarray(
        np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, 2), format="rgb24"
    )
    scaled = RgbConverter(Path("a.mp4")).scale(frame.reformat(format="yuv444p"), size)[..., 1].astype(float)
    weight = scaled - scaled.min()
    down, right = np.mgrid[: size[1], : size[0]]
    found = np.array([(weight * right).sum(), (weight * down).sum()]) / weight.sum()
    expected = (np.array([x, y]) + 0.5) * np.array(size) / (width, height) - 0.5
    assert np.abs(found - expected).max() < 0.05


def test_scaling_is_opencvs_area_of_an_exact_conversion_to_a_level() -> None:
    rgb = clips.moving_texture(1, height=270, width=480)[0]
    frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="gbrp")
    for size in ((455, 256), (341, 192), (240, 135), (68, 38)):
        found = RgbConverter(Path("a.mp4")).scale(frame, size)
        expected = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        assert np.abs(found.astype(int) - expected).max() <= 2, size


def test_a_frame_of_the_size_already_has_opencvs_pixels() -> None:
    frame = VideoFrame.from_ndarray(clips.moving_texture(1)[0], format="rgb24").reformat(format="yuv420p")
    converter = RgbConverter(Path("a.mp4"))
    np.testing.assert_array_equal(converter.scale(frame, (64, 48)), converter.convert(frame))


def test_an_interlaced_frame_is_scaled_whole(tmp_path: Path) -> None:
    """Field by field, the combs of two moments would stay as they are."""
    texture = np.zeros((4, 96, 64, 3), np.uint8)
    texture[:, ::2] = 200
    path = clips.interlaced(tmp_path / "a.mpg", texture)
    with video.open_video(path) as reader:
        frame = next(reader.lazy())
        assert reader.info.interlaced
        rows = frame.to_rgb((32, 48))[8:-8].mean(axis=(1, 2))
    assert np.ptp(rows) < 20  # each is the mean of a bright and a dark line
    assert abs(float(rows.mean()) - 100) < 20
