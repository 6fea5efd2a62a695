"""Text and images on a canvas, and files of images."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InputError, InvalidParameterError
from flowkit.view.canvas import (
    PAPER,
    blank,
    file_name,
    fit,
    read_rgb,
    shortened,
    text_width,
    thumbnail_webp,
    write_image,
    write_text,
)
from tests.make.deadline import ends_in_time


def test_text_is_cut_to_its_room_and_its_end_is_kept() -> None:
    words = "HandStand/a_very_long_name_of_a_video_g01_c07"
    short = shortened(words, 120)
    assert text_width(short) <= 120
    assert short.startswith("Hand")
    assert short.endswith("c07")
    assert shortened("short", 500) == "short"


def test_text_of_any_language_is_drawn_and_none_raises() -> None:
    canvas = blank(30, 200)
    write_text(canvas, "видео/動画\n\0", (2, 20))
    assert (canvas != np.array(PAPER)).any()


def test_fit_scales_to_the_size_asked_for() -> None:
    image = np.full((10, 20, 3), 77, np.uint8)
    assert fit(image, 7, 3).shape == (3, 7, 3)
    assert (fit(image, 40, 40) == 77).all()
    assert fit(image, 20, 10) is image


def test_png_comes_back_bit_for_bit(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), image)


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("a.png", "empty.png"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            read_rgb(tmp_path / name)
    with pytest.raises(InvalidParameterError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", np.zeros((2, 2, 3), np.uint8))
    assert not (tmp_path / "a.xyz").exists()


@pytest.mark.parametrize("video_id", ["a/b", "a\\b/..c", "x\n\0;", "動画/" + "動" * 300, "e" * 1000])
def test_file_names_are_one_short_plain_name(tmp_path: Path, video_id: str) -> None:
    name = file_name(video_id)
    (tmp_path / f"{name}.png").write_bytes(b"x")
    assert [path.stem for path in tmp_path.iterdir()] == [name]
    assert not set(name) & set("/\\\0\n; ")


def test_thumbnail_is_webp() -> None:
    data = thumbnail_webp(np.zeros((20, 30, 3), np.uint8), 50)
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WEBP"


def test_what_is_no_image_of_a_usual_size_is_an_error_that_names_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    write_image(tmp_path / "large.png", np.zeros((8, 8, 3), np.uint8))
    data = bytearray((tmp_path / "large.png").read_bytes())
    data[16:24] = (60000).to_bytes(4) * 2
    (tmp_path / "large.png").write_bytes(data)
    for name, words in (("pipe.png", "no regular file"), ("large.png", "claims 60000x60000 px")):
        with pytest.raises(InputError, match=rf"{name}: not an image that can be read, .*{words}"):
            ends_in_time(functools.partial(read_rgb, tmp_path / name))


def test_a_canvas_of_gigabytes_is_refused_before_it_is_made() -> None:
    with pytest.raises(InvalidParameterError, match="would be 240x15728400 px, expected at most"):
        blank(15_728_400, 240)
