"""`flowkit verify`: what it says of what it read, and the samples that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.make import clips, small
from tests.make.command import flowkit_says


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("one", "two"):
        clips.mjpeg_avi(folder / f"{name}.avi", clips.moving_texture(4))
    small.run(folder, tmp_path / "out.h5")
    return tmp_path / "out.h5"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "; checksums of every byte"),
        (("--deep",), "; all was decoded"),
        (("--sample", "1%"), "; checksums of 1 of the videos, drawn by chance"),
        (("--deep", "--sample", "50"), "; chunks of 1 of the videos, drawn by chance were decoded"),
    ],
)
def test_verify_says_what_it_read(store: Path, words: tuple[str, ...], said: str) -> None:
    done = flowkit_says("verify", store, *words)
    assert done.returncode == 0
    assert done.stdout.strip().endswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sample", "none"), "'none' is not a percentage"),
        (("--sample", "101"), "is not a percentage"),
        (("--repair", "--sample", "1"), "leave --sample out"),
    ],
)
def test_verify_refuses_samples_that_are_none(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = flowkit_says("verify", tmp_path / "x.h5", *words)
    assert done.returncode == 2
    assert said in done.stderr
