from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowkit.video.container_length import shown_seconds
from tests.make import clips

FRAMES = clips.numbered_flashes(10)


def test_length_is_that_of_the_video_track(tmp_path: Path) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", FRAMES)
    assert shown_seconds(path) == pytest.approx(0.4)
    assert shown_seconds(clips.with_edit_list(tmp_path / "b.mp4", path, first_ms=160)) == pytest.approx(0.24)


def test_other_files_have_none(tmp_path: Path) -> None:
    assert shown_seconds(clips.lossless_mkv(tmp_path / "a.mkv", FRAMES)) is None
    assert shown_seconds(clips.audio_only(tmp_path / "a.m4a")) is None
    (tmp_path / "empty").write_bytes(b"")
    assert shown_seconds(tmp_path / "empty") is None


def test_damaged_files_have_some_or_none(tmp_path: Path) -> None:
    data = clips.h264_mp4(tmp_path / "a.mp4", FRAMES).read_bytes()
    random = np.random.default_rng(1)
    for _ in range(200):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), 8):
            damaged[at] = random.integers(256)
        (tmp_path / "b").write_bytes(damaged)
        found = shown_seconds(tmp_path / "b")
        assert found is None or found > 0
