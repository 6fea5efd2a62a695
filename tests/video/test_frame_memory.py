"""Frames are freed as they are read: a video of any length takes the memory of a few."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("av")

from av.video.frame import VideoFrame

from flowkit.typing import UInt8
from flowkit.video.reader import open_video
from tests.make import clips


def alive() -> int:
    """Return the number of decoded frames in memory, those included that wait for Python's collector."""
    return sum(type(one) is VideoFrame for one in gc.get_objects())


@pytest.mark.parametrize(
    ("write", "name"),
    [(clips.mjpeg_avi, "a.avi"), (clips.lossless_mkv, "a.mkv"), (clips.h264_mp4, "a.mp4")],
)
def test_frames_do_not_wait_for_the_collector(
    tmp_path: Path, write: Callable[[Path, UInt8], Path], name: str
) -> None:
    path = write(tmp_path / name, clips.moving_texture(60))
    gc.collect()
    before, most, count = alive(), 0, 0
    gc.disable()
    try:
        with open_video(path, decoder="av") as reader:
            for frame in reader.lazy():
                frame.to_rgb(None)
                count += 1
                if count % 15 == 0:  # each look goes through all objects of the process
                    most = max(most, alive() - before)
    finally:
        gc.enable()
    assert count == 60
    assert most <= 12
