"""The comparison of decoding by one thread and by several."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.decoder_threads import compared, decoded, with_damage
from tests.make import clips


def test_frames_are_compared_up_to_the_first_sign() -> None:
    one = ("h264", ["a", "b", "c"], None)
    assert compared(one, ("h264", ["a", "b", "c"], 1)) == "equal"
    assert compared(one, ("h264", ["a", "x", "c"], None)) == "differ, no sign"
    assert compared(one, ("h264", ["a", "x", "c"], 1)) == "differ from the first sign on"
    assert compared(one, ("h264", ["a", "x", "c"], 2)) == "differ before the first sign"
    assert compared(one, ("h264", ["a", "b"], 2)) == "differ from the first sign on"


def test_damage_keeps_the_length_and_follows_the_seed() -> None:
    data = bytes(10_000)
    damaged = with_damage(data, random.Random(1))
    assert len(damaged) == len(data)
    assert damaged != data
    assert damaged == with_damage(data, random.Random(1))


def test_a_whole_file_has_its_frames_and_no_sign(tmp_path: Path) -> None:
    path = clips.h264_mp4(tmp_path / "a.mp4", clips.moving_texture(12))
    codec, frames, sign = decoded(path.read_bytes(), 2) or ("", [], 0)
    assert (codec, len(set(frames)), sign) == ("h264", 12, None)
    assert decoded(b"no video", 1) is None
