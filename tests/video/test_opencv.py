"""OpenCV's source by itself: its facts, frames and errors; what both decoders promise is in test_reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.errors import DecodeError, UnopenableError
from flowkit.video.opencv import CvSource
from flowkit.video.source import DecodedFrame
from tests.make import clips
from tests.make.clips import UInt8

FRAMES = clips.moving_texture(6)


@contextmanager
def opened(path: Path) -> Iterator[CvSource]:
    with closing(CvSource(path, threads=1)) as source:
        yield source


def decode(path: Path, start_seconds: float | None = None) -> list[tuple[float | None, UInt8]]:
    with opened(path) as source:
        events = source.events(start_seconds)
        return [(event.seconds, event.to_rgb(None)) for event in events if isinstance(event, DecodedFrame)]


def test_frames_come_to_the_pixel_in_rgb_with_their_times(tmp_path: Path) -> None:
    at = [0, 40, 80, 400, 410, 1000]
    seconds, images = zip(*decode(clips.uneven_mkv(tmp_path / "a.mkv", FRAMES, at)), strict=True)
    np.testing.assert_array_equal(images, FRAMES)
    # The container's clock counts milliseconds.
    np.testing.assert_allclose(seconds, np.array(at) / 1000, atol=1e-9)


def test_a_start_does_not_seek(tmp_path: Path) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", clips.moving_texture(30), key_frame_every=5)
    assert [seconds for seconds, _ in decode(path, 1.0)] == [seconds for seconds, _ in decode(path)]
    assert len(decode(path, 1.0)) == 30


def test_a_frame_that_is_not_wanted_need_not_be_converted(tmp_path: Path) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", FRAMES)
    with opened(path) as source:
        for index, event in enumerate(source.events(None)):
            assert isinstance(event, DecodedFrame)
            if index in (0, 3):
                np.testing.assert_array_equal(event.to_rgb(None), FRAMES[index])


def test_info_has_the_facts_of_the_header(tmp_path: Path) -> None:
    with opened(clips.h264_mp4(tmp_path / "a.mp4", FRAMES, fps=10)) as source:
        info = source.info
    assert (info.codec, info.pixel_format, info.decoder, info.container) == ("h264", "I420", "opencv", "")
    assert (info.width, info.height, info.rotation, info.fps) == (64, 48, 0, 10.0)
    assert (info.header_frames, info.header_seconds) == (6, 0.6)
    assert info.origin_seconds == 0.0


def test_info_of_a_rotated_video_is_that_of_the_upright_frame(tmp_path: Path) -> None:
    with opened(clips.rotated_mp4(tmp_path / "a.mp4", FRAMES, 90)) as source:
        assert (source.info.width, source.info.height, source.info.rotation) == (64, 48, 90)
        first = next(source.events(None))
        assert isinstance(first, DecodedFrame)
        assert first.to_rgb(None).shape == (48, 64, 3)


def test_a_stream_without_a_count_has_no_frames_in_its_header(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.h264", FRAMES)
    with opened(path) as source:
        assert source.info.header_frames is None
        assert source.info.header_seconds is None
    assert len(decode(path)) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"no video " * 99, "OpenCV cannot open it as a video, or it has no video")],
)
def test_a_file_that_is_no_video_is_unopenable_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UnopenableError, match=message) as caught:
        CvSource(path, threads=1)
    assert str(caught.value).startswith(f"{path}: ")


def test_sound_alone_is_unopenable(tmp_path: Path) -> None:
    with pytest.raises(UnopenableError, match="or it has no video stream"):
        CvSource(clips.audio_only(tmp_path / "a.mp4"), threads=1)


def test_a_name_that_is_not_utf8_is_refused_before_opencv_sees_it(tmp_path: Path) -> None:
    path = clips.lossless_mkv(tmp_path / "a.mkv", FRAMES).rename(tmp_path / "a\udcff.mkv")
    with pytest.raises(UnopenableError, match="not UTF-8; rename the file or use PyAV"):
        CvSource(path, threads=1)


def test_a_video_without_one_sound_frame_is_a_decode_error(tmp_path: Path) -> None:
    whole = clips.h264_mp4(tmp_path / "a.mp4", FRAMES)
    broken = clips.with_broken_packets(tmp_path / "b.mp4", whole, range(6))
    with pytest.raises(DecodeError, match=r"b\.mp4: OpenCV decodes no frame of it"):
        CvSource(broken, threads=1)


def test_opencvs_own_messages_are_as_before_once_a_file_was_opened(tmp_path: Path) -> None:
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        with pytest.raises(UnopenableError):
            CvSource(clips.audio_only(tmp_path / "a.mp4"), threads=1)
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING
    finally:
        cv2.utils.logging.setLogLevel(before)


def test_a_closed_source_gives_no_more_frames(tmp_path: Path) -> None:
    source = CvSource(clips.lossless_mkv(tmp_path / "a.mkv", FRAMES), threads=1)
    events = source.events(None)
    next(events)
    source.close()
    assert list(events) == []
