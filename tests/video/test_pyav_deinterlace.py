"""Deinterlacing behind the decoder: one image for each frame, in its place and with its time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from flowkit.errors import InvalidParameterError
from flowkit.typing import UInt8
from flowkit.video import reader as video
from flowkit.video.pyav_deinterlace import Pictured, deinterlaced
from flowkit.video.pyav_file import open_container
from tests.make import clips


def woven(n: int = 10, *, height: int = 64, width: int = 96) -> UInt8:
    """Frames of a bar that moves by 8 px from field to field: combs at its edges."""
    frames = np.full((n, height, width, 3), 60, np.uint8)
    for k in range(n):
        for field in (0, 1):
            begin = 16 * k % (width - 32) + 8 * field
            frames[k, field::2, begin : begin + 24] = 220
    return frames


def combing(frame: UInt8) -> float:
    """Mean difference of a line from the mean of those above and below it, in grey levels."""
    grey = frame.astype(float).mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def read(path: Path, **options: object) -> tuple[list[UInt8], list[float], video.DecodeReport]:
    with video.open_video(path, **options) as reader:  # type: ignore[arg-type]
        frames = list(reader)
    return [frame.rgb for frame in frames], [frame.pts_seconds for frame in frames], reader.report


def decoded(path: Path) -> list[VideoFrame]:
    with open_container(path) as container:
        return list(container.decode(video=0))


def test_interlaced_frames_become_frames_of_one_moment(tmp_path: Path) -> None:
    path = clips.interlaced(tmp_path / "a.ts", woven())
    combed, times, before = read(path)
    images, new_times, after = read(path, deinterlace=True)
    assert (len(images), new_times) == (len(combed), times)
    assert (before.interlaced_frames, after.interlaced_frames) == (10, 0)
    assert max(map(combing, images)) < 0.25 * min(map(combing, combed))
    for image, frame in zip(images, combed, strict=True):
        # One of the two fields stays as it is, up to the conversion of its colours.
        fields = [np.abs(image[k::2].astype(int) - frame[k::2]).mean() for k in (0, 1)]
        assert min(fields) < 3


def test_other_frames_keep_their_pixels(tmp_path: Path) -> None:
    path = clips.mpeg4_avi(tmp_path / "a.avi", clips.moving_texture(6))
    for one, other in zip(*(read(path, deinterlace=wanted)[0] for wanted in (False, True)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_video_that_becomes_interlaced_midway_is_filtered_from_there(tmp_path: Path) -> None:
    parts = [
        clips.transport_stream(tmp_path / "a.ts", clips.moving_texture(5, height=64, width=96)),
        clips.interlaced(tmp_path / "b.ts", woven(6)),
        clips.interlaced(tmp_path / "c.ts", woven(6, height=96, width=128)),
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    before, times, report = read(path)
    after, new_times, deinterlaced_report = read(path, deinterlace=True)
    assert new_times == times
    assert [image.shape for image in after] == [image.shape for image in before]
    # A decoder may lose a frame where the parts meet.
    assert report.interlaced_frames >= 10
    assert deinterlaced_report.interlaced_frames == 0
    for k in range(5):
        np.testing.assert_array_equal(after[k], before[k])
    assert max(map(combing, after[5:])) < 5


def test_faults_keep_their_places_between_the_frames(tmp_path: Path) -> None:
    frames = decoded(clips.interlaced(tmp_path / "a.ts", woven(5)))

    def events() -> Iterator[VideoFrame | str]:
        yield "before"
        for k, frame in enumerate(frames):
            yield frame
            yield f"after {k}"

    made = [event if isinstance(event, str) else event.decoded for event in deinterlaced(events())]
    assert made == list(events())


def test_each_image_is_that_of_its_frame(tmp_path: Path) -> None:
    frames = decoded(clips.interlaced(tmp_path / "a.ts", woven(7)))
    made = [event for event in deinterlaced(iter(frames)) if isinstance(event, Pictured)]
    for frame, pair in zip(frames, made, strict=True):
        assert pair.decoded is frame
        # The filter counts in half ticks.
        assert pair.image.pts is not None
        assert pair.image.pts * pair.image.time_base == frame.pts * frame.time_base  # type: ignore[operator]
        assert (pair.image.colorspace, pair.image.color_range) == (frame.colorspace, frame.color_range)


def test_opencv_refuses_and_says_why(tmp_path: Path) -> None:
    path = clips.mpeg4_avi(tmp_path / "a.avi", clips.moving_texture(3))
    with pytest.raises(
        InvalidParameterError, match=r"deinterlace, asked for, needs decoder 'av'.*install `av`"
    ):
        video.open_video(path, decoder="opencv", deinterlace=True)
