"""Videos recognised by their content."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.video.detect import is_video_file
from tests.make.clips import audio_only, moving_texture, write_video


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


def test_without_pyav_no_content_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving_texture(3))
    monkeypatch.setitem(sys.modules, "av", None)
    assert not is_video_file(path)
