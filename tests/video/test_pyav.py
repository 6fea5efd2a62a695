"""PyAV's own side, and what real files ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av.error
import numpy as np
import pytest
from av.container import InputContainer
from av.video.stream import VideoStream

from flowkit.errors import NoVideoStreamError, UnopenableError
from flowkit.video import pyav as video_av
from flowkit.video import pyav_file
from flowkit.video import reader as video
from flowkit.video.pyav import _BestTimes
from tests.make import clips


def chosen(pairs: Sequence[tuple[int | None, int | None]], *, prefer_dts: bool = False) -> list[int | None]:
    times = _BestTimes(prefer_dts=prefer_dts)
    return [times.choose(pts, dts) for pts, dts in pairs]


def test_presentation_times_are_taken_while_they_rise() -> None:
    assert chosen([(0, -2), (1, -2), (2, 0), (5, 1)]) == [0, 1, 2, 5]


def test_decoding_times_step_in_when_presentation_times_run_backwards() -> None:
    # FFmpeg's times of an XviD AVI with packed B-frames, as in UCF101.
    packed = [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6), (6, 7)]
    assert chosen(packed) == [1, 2, 4, 4, 5, 6, 7]
    assert chosen(packed, prefer_dts=True) == [1, 2, 3, 4, 5, 6, 7]


def test_avi_takes_presentation_times_when_decoding_times_are_worse() -> None:
    assert chosen([(0, 5), (1, 5), (2, 4), (3, 3)], prefer_dts=True)[2:] == [2, 3]


def test_the_only_time_there_is_taken() -> None:
    assert chosen([(None, 3), (4, None), (None, None)]) == [3, 4, None]


class StuckContainer:
    """A container whose reading fails after some packets and never recovers."""

    def __init__(self, real: InputContainer, packets: int) -> None:
        self._real = real
        self._left = packets

    def demux(self, stream: VideoStream) -> Iterator[object]:
        packets = self._real.demux(stream)
        while self._left > 0:
            self._left -= 1
            yield next(packets)
        raise av.error.OSError(5, "Input/output error")

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def test_stuck_reading_ends_and_gives_all_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", clips.numbered_flashes(20))
    sound = pyav_file.open_container
    monkeypatch.setattr(video_av, "open_container", lambda path: StuckContainer(sound(path), 12))
    with video.open_video(path) as reader:
        frames = list(reader)
    # Every packet read becomes a frame: those that the decoder still held come out at the end.
    assert len(frames) == 12
    assert reader.report.skipped_frames == video_av.MAX_READ_FAULTS
    assert "Input/output error" in reader.report.truncated_reason


# (file, frames, width, height, clockwise rotation, truncated) of every real video that decodes.
REAL = [
    ("decord/corrupted.mp4", 49, 1280, 720, 0, True),
    ("decord/flipping_a_pancake.mkv", 310, 426, 240, 0, False),
    ("decord/unordered.mov", 4, 50, 50, 0, False),
    ("decord/video_0.mov", 3, 568, 320, 0, False),
    ("decord/video_90.mov", 3, 320, 568, 90, False),
    ("decord/video_180.mov", 3, 568, 320, 180, False),
    ("decord/video_270.mov", 3, 320, 568, 270, False),
    ("derived/odd_339x255_yuv444.mp4", 20, 339, 255, 0, False),
    ("derived/one_frame.mp4", 1, 340, 256, 0, False),
    ("derived/truncated_40pct.avi", 166, 160, 120, 0, True),
    ("derived/vfr_40frames.mp4", 40, 340, 256, 0, False),
    ("misc/carphone_pristine.mp4", 120, 176, 144, 0, False),
    ("misc/tests_data_test.avi", 164, 320, 240, 0, False),
    ("misc/tree.avi", 68, 320, 240, 0, False),
    ("torchcodec/av1_video.mkv", 125, 640, 360, 0, False),
    ("torchcodec/discard_first_keyframe.mp4", 25, 64, 64, 0, False),
    ("torchcodec/h264_10bits.mp4", 30, 200, 200, 0, False),
    ("torchcodec/h265_video.mp4", 10, 128, 128, 0, False),
    ("torchcodec/nasa_13013.mp4", 390, 480, 270, 0, False),
    ("torchcodec/nasa_13013_rotated.mp4", 17, 270, 480, 270, False),
    ("torchcodec/sine_stereo_mp2.mpg", 100, 128, 128, 0, False),
    ("torchcodec/test_non_zero_start.mp4", 12, 200, 112, 0, False),
    ("torchcodec/testsrc2_odd_height_and_width_mpeg2.mp4", 10, 121, 81, 0, False),
    ("torchcodec/testsrc2_vp8.webm", 30, 1280, 720, 0, False),
    ("torchcodec/testsrc2_vp9.webm", 30, 1280, 720, 0, False),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "frames", "width", "height", "rotation", "truncated"), REAL)
def test_real_files_give_what_is_in_them(
    shared_data: Path, name: str, frames: int, width: int, height: int, rotation: int, truncated: bool
) -> None:
    with video.open_video(shared_data / "videos" / name) as reader:
        times = []
        for frame in reader:
            assert frame.rgb.shape == (height, width, 3)
            times.append(frame.pts_seconds)
    assert (len(times), reader.report.truncated, reader.info.rotation) == (frames, truncated, rotation)
    assert (np.diff(times) > 0).all()
    assert 0 <= times[0] < 0.05


@pytest.mark.data
def test_real_ucf101_times_are_even_and_flagged(shared_data: Path) -> None:
    with video.open_video(shared_data / "videos" / "misc" / "tests_data_test.avi") as reader:
        times = [frame.pts_seconds for frame in reader]
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-9)
    assert reader.report.pts_repaired == 108


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("zero_bytes.mp4", UnopenableError, "file is empty"),
        ("text_not_video.avi", UnopenableError, "not a video"),
        ("truncated_half.mp4", UnopenableError, "not a video"),
        ("audio_only.mp4", NoVideoStreamError, "only audio"),
    ],
)
def test_real_files_that_fail_say_why(
    shared_data: Path, name: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        video.open_video(shared_data / "videos" / "derived" / name)
