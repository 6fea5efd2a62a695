"""Videos recognised by their content."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.video.detect import is_video_file
from tests.make.clips import audio_only, moving_texture, write_video
from tests.make.deadline import ends_in_time


def test_a_video_is_one_whatever_its_suffix(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_texture(3))
    for suffix in ("", ".bin", ".txt"):
        assert is_video_file(path.rename(tmp_path / f"a{suffix}"))
        path = tmp_path / f"a{suffix}"


@pytest.mark.parametrize(
    "data",
    [b"", b"plain text\n" * 999, "Größe ".encode() * 2000, bytes(range(256)) * 40, b"PK\3\4" + bytes(300)],
    ids=["empty", "text", "text cut within a character", "bytes", "zip"],
)
def test_what_no_decoder_opens_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert not is_video_file(tmp_path / "x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_a_still_image_is_none(suffix: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / f"x{suffix}"), np.zeros((16, 16, 3), np.uint8))
    (tmp_path / f"x{suffix}").rename(tmp_path / "x")
    assert not is_video_file(tmp_path / "x")


def test_sound_is_none_and_so_is_what_cannot_be_read(tmp_path: Path) -> None:
    assert not is_video_file(audio_only(tmp_path / "a.mp4"))
    assert not is_video_file(tmp_path / "gone")
    assert not is_video_file(tmp_path)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert not ends_in_time(lambda: is_video_file(tmp_path / "x"))


def test_a_title_that_is_not_utf8_costs_no_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", moving_texture(3), codec="mjpeg", pixel_format="yuvj420p")
    data = path.read_bytes()
    assert data.count(b"Lavf") >= 1  # the program that wrote it, as its text
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xe8\xff\xfe"))
    assert is_video_file(path.rename(tmp_path / "a"))


def test_a_name_like_an_address_is_a_file(tmp_path: Path) -> None:
    assert is_video_file(write_video(tmp_path / "a.mp4", moving_texture(3)).rename(tmp_path / "rtsp:x"))


def test_without_pyav_no_content_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_texture(3))
    monkeypatch.setitem(sys.modules, "flowkit.video.pyav", None)
    assert not is_video_file(path)
