"""OpenCV's pixels are PyAV's or refused: frames that it does not convert, colours that it maps."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import DecodeError
from flowkit.typing import Decoder
from flowkit.video import reader as video
from flowkit.video.opencv_check import ConversionCheck, luma_difference, new_memory_filled
from tests.make import clips
from tests.make.clips import UInt8

FRAMES = clips.moving_texture(6)
REC_2020 = {"colorprim": "bt2020", "colormatrix": "bt2020nc"}


def read(path: Path, decoder: Decoder) -> UInt8:
    with video.open_video(path, decoder=decoder) as reader:
        return np.stack([frame.rgb for frame in reader])


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv422p10le"),
        ("a.avi", "mpeg4", "yuv420p"),
    ],
)
def test_interlaced_video_is_refused_and_pyav_decodes_it(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = clips.interlaced(tmp_path / name, FRAMES, codec=codec, pixel_format=pixel_format)
    assert 60 < read(path, "av").mean() < 200
    with pytest.raises(DecodeError, match="does not convert interlaced frames; use decoder 'av'"):
        read(path, "opencv")


def test_black_interlaced_video_is_refused_too(tmp_path: Path) -> None:
    black = np.zeros((6, 240, 320, 3), np.uint8)
    with pytest.raises(DecodeError, match="does not convert"):
        read(clips.interlaced(tmp_path / "a.mpg", black), "opencv")


@pytest.mark.parametrize("still", [False, True])
def test_video_that_becomes_interlaced_midway_is_refused_there(tmp_path: Path, still: bool) -> None:
    begin = np.repeat(FRAMES[:1], 9, axis=0) if still else clips.moving_texture(9)
    parts = [
        clips.write_video(tmp_path / "a.ts", begin, codec="mpeg2video"),
        clips.interlaced(tmp_path / "b.ts", clips.moving_texture(40, seed=3)),
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(read(tmp_path / "both.ts", "av")) > 45
    rng, held = np.random.default_rng(0), []
    for _ in range(40 if still else 1):
        # In many states of the heap: in one of eight the second capture was given the still frame's memory.
        held = [np.full(rng.integers(1_000, 400_000), 7, np.uint8) for _ in range(rng.integers(60))][::2]
        with pytest.raises(DecodeError, match="does not convert frame"):
            read(tmp_path / "both.ts", "opencv")
    del held


@pytest.mark.parametrize("size", [4_000, 400_000])
def test_memory_that_is_handed_out_meanwhile_is_filled(size: int) -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("not glibc")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]

    def levels() -> set[int]:
        place = libc.malloc(size)
        found = set(ctypes.string_at(place, size))
        libc.free(place)
        return found

    before = np.full(size, 100, np.uint8)
    del before
    for level in (0x01, 0xFE):
        with new_memory_filled(level):
            assert levels() == {level}


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.mkv", "libx264", "yuv422p10le"),
        ("a.mkv", "ffv1", "yuv420p12le"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mkv", "ffv1", "gray"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.avi", "rawvideo", "yuyv422"),
        ("a.avi", "rawvideo", "bgr24"),
        ("a.mov", "qtrle", "rgb24"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
    ],
)
def test_still_scenes_are_frames_like_others(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    still = np.repeat(FRAMES[:1], 9, axis=0)
    path = clips.write_video(tmp_path / name, still, codec=codec, pixel_format=pixel_format)
    np.testing.assert_array_equal(read(path, "opencv"), read(path, "av"))


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_are_frames_like_others(tmp_path: Path, level: int) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", np.full((5, 48, 64, 3), level, np.uint8))
    np.testing.assert_array_equal(read(path, "opencv"), read(path, "av"))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(
    "tags",
    [
        {**REC_2020, "transfer": "bt2020-10"},
        {**REC_2020, "transfer": "smpte2084"},
        {**REC_2020, "transfer": "arib-std-b67"},
        {"colorprim": "bt2020"},
        {"colorprim": "smpte432", "transfer": "bt709", "colormatrix": "bt709"},
        {"colorprim": "film"},
        {"transfer": "smpte2084"},
        {"transfer": "log100"},
    ],
)
def test_colours_that_opencv_would_map_are_refused(
    tmp_path: Path, pixel_format: str, tags: dict[str, str]
) -> None:
    path = clips.coloured(tmp_path / "a.mp4", FRAMES, pixel_format=pixel_format, **tags)
    assert len(read(path, "av")) == 6
    with pytest.raises(DecodeError, match=r"it maps colours \(.*; use decoder 'av'"):
        read(path, "opencv")


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"colorprim": "bt709", "transfer": "bt709", "colormatrix": "bt709"},
        {"colorprim": "smpte170m", "transfer": "smpte170m", "colormatrix": "smpte170m"},
        {"colorprim": "bt470bg", "transfer": "bt470bg", "colormatrix": "bt470bg"},
        {"colorprim": "smpte240m", "transfer": "smpte240m", "colormatrix": "smpte240m"},
        {"transfer": "iec61966-2-1"},
        {"transfer": "linear"},
        {"transfer": "bt2020-10", "colormatrix": "bt2020nc"},
        {"fullrange": "on"},
    ],
)
def test_other_colours_are_equal_to_the_pixel(
    tmp_path: Path, pixel_format: str, tags: dict[str, str]
) -> None:
    path = clips.coloured(tmp_path / "a.mp4", FRAMES, pixel_format=pixel_format, **tags)
    np.testing.assert_array_equal(read(path, "opencv"), read(path, "av"))


def test_primaries_do_not_change_pyavs_pixels(tmp_path: Path) -> None:
    tagged = clips.coloured(tmp_path / "a.mp4", FRAMES, **REC_2020, transfer="smpte2084")
    plain = clips.coloured(tmp_path / "b.mp4", FRAMES, colormatrix="bt2020nc")
    np.testing.assert_array_equal(read(tagged, "av"), read(plain, "av"))


@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c", "ICtCp", "smpte2085", "chroma-derived-nc"])
def test_matrix_without_a_conversion_costs_no_video(tmp_path: Path, matrix: str) -> None:
    path = clips.coloured(tmp_path / "a.mp4", FRAMES, colormatrix=matrix)
    with video.open_video(path) as reader:
        frames = [frame.rgb for frame in reader]
    assert len(frames) == 6
    (note,) = reader.report.notes
    assert "colour matrix" in note
    assert "read as" in note
    with pytest.raises(DecodeError, match="does not convert"):
        read(path, "opencv")


def test_without_pyav_opencv_keeps_its_own_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flowkit.video.pyav", None)
    path = clips.coloured(tmp_path / "a.mp4", FRAMES, **REC_2020, transfer="bt2020-10")
    assert len(read(path, "opencv")) == 6
    for name, codec in (("b.mpg", "mpeg2video"), ("b.mp4", "libx264"), ("b.avi", "mpeg4")):
        fields = clips.interlaced(tmp_path / name, FRAMES, codec=codec)
        with pytest.raises(DecodeError, match=r"does not convert .*interlaced frames.*use decoder 'av'"):
            read(fields, "opencv")


@pytest.mark.parametrize("held", [2, 3, 10])
def test_repeated_frames_cost_no_more_than_a_few_decodings(
    tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", np.repeat(clips.moving_texture(60), held, axis=0))
    checks: list[ConversionCheck] = []
    plain = ConversionCheck.__init__

    def watched(self: ConversionCheck, *arguments: object) -> None:
        plain(self, *arguments)  # type: ignore[arg-type]
        checks.append(self)

    monkeypatch.setattr(ConversionCheck, "__init__", watched)
    assert len(read(path, "opencv")) == 60 * held
    (check,) = checks
    assert 60 < check._grabs <= 3 * 60 * held + 200


def test_luma_of_its_own_image_is_near_and_of_another_far() -> None:
    rgb = clips.moving_texture(1, seed=5)[0]
    luma = (rgb @ np.array([0.2126, 0.7152, 0.0722])).astype(np.float32)
    assert luma_difference(luma, rgb[..., ::-1]) < 0.5
    assert luma_difference(luma * np.float32(219 / 255) + 16, rgb[..., ::-1]) < 0.5
    assert luma_difference(luma[::-1], rgb[..., ::-1]) > 20
    assert luma_difference(np.zeros_like(luma), rgb[..., ::-1]) > 20
