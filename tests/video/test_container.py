"""Orientations and lengths by the bytes of a file: damaged files say nothing, and nothing breaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.video.container import container_orientations, fitting, of_packet, shown_seconds
from flowkit.video.orientation import UPRIGHT, Orientation
from tests.make import clips

UP = clips.moving_texture(2, height=48, width=80)
ANTI = Orientation(rotation=90, mirrored=True)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_tracks_come_in_order(tmp_path: Path, name: str) -> None:
    assert container_orientations(clips.oriented_video(tmp_path / name, UP, 90, True)) == (ANTI,)
    assert container_orientations(clips.write_video(tmp_path / f"plain_{name}", UP)) == (UPRIGHT,)


def test_sound_has_no_orientation(tmp_path: Path) -> None:
    assert container_orientations(clips.audio_only(tmp_path / "a.mp4")) == (None,)


def test_other_files_have_no_tracks(tmp_path: Path) -> None:
    assert container_orientations(clips.mjpeg_avi(tmp_path / "a.avi", UP)) == ()
    (tmp_path / "empty").write_bytes(b"")
    assert container_orientations(tmp_path / "empty") == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damaged_headers_say_nothing_or_something(tmp_path: Path, name: str) -> None:
    data = clips.oriented_video(tmp_path / name, UP, 90, True).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), 8):
            damaged[at] = random.integers(256)
        (tmp_path / "b").write_bytes(damaged[: random.integers(1, len(data))])
        assert all(
            found is None or found.rotation % 90 == 0 for found in container_orientations(tmp_path / "b")
        )


@given(st.binary(max_size=40))
def test_any_packet_has_an_orientation(noise: bytes) -> None:
    for data in (noise, b"\0\0\1\6" + noise, b"\0\0\1\x4e\1" + noise, b"\xff\xd8" + noise):
        assert of_packet(data).rotation % 90 == 0


def test_the_message_of_hevc_is_found() -> None:
    # Flipped across, and a quarter anticlockwise: 0, 1, 0, 0x4000.
    message = (0b010 << 21 | 0x4000 << 5).to_bytes(3, "big")
    packet = b"\0\0\0\1\x40\1\x0c\0\0\1\x4e\1\x2f\3" + message + b"\x80"
    assert of_packet(packet) == Orientation(rotation=270, mirrored=True)


def test_the_candidate_of_the_decoders_angle_is_taken() -> None:
    assert fitting(270, (None, UPRIGHT, ANTI)) == ANTI
    assert fitting(0, (ANTI, UPRIGHT)) == UPRIGHT
    assert fitting(90, (UPRIGHT,)) == Orientation(rotation=90)


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
