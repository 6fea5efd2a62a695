"""Strips, films, legends and the canvas they are drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.errors import ClipNotFoundError, ClipRangeError, InputError, InvalidParameterError
from flowkit.view.canvas import PAPER, blank, fit, shortened, text_width, write_text
from flowkit.view.film import film
from flowkit.view.legend import LEGEND_WIDTH, disc, legend, per_step
from flowkit.view.moment import Footage
from flowkit.view.picture import file_name, read_rgb, thumbnail_webp, write_picture
from flowkit.view.strip import strip
from flowkit.view.wheel import flow_to_rgb
from tests import stores


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return stores.write_store(folder / "s.h5", {"a/b": stores.steady(8, 3, 0, height=24, width=40)})


def test_strip_shows_frames_flow_and_magnitude(path: Path) -> None:
    with flowkit.open(path) as store:
        footage = Footage(store, "a/b", max_px=3.0)
        picture = strip(footage, columns=3, tile_width=40)
        red = flow_to_rgb(store["a/b"].flow(0, 1)[0], max_px=3.0)[0, 0]
    # 6 px gap, rows of 24 px below a head of 54 px
    tile = picture[54 : 54 + 24, 6:46]
    assert np.abs(tile.astype(int) - 10).max() <= 2  # frame 0 is grey 10; JPEG
    assert (picture[54 + 30 : 54 + 54, 6:46] == red).all()
    last = picture[54 : 54 + 24, 6 + 2 * 46 : 46 + 2 * 46]
    assert np.abs(last.astype(int) - 17).max() <= 2  # field 7 leads from frame 7
    assert picture.shape[1] == 6 + 3 * 46 + LEGEND_WIDTH


def test_strip_without_frames_is_shorter_or_as_tall_as_its_legend(tmp_path: Path) -> None:
    videos = {"a": stores.steady(3, 1, 1, height=120, width=120)}
    bare = stores.write_store(tmp_path / "s.h5", videos, frames=False)
    with flowkit.open(bare) as store:
        footage = Footage(store, "a")
        assert footage.moment(0).frame is None
        assert strip(footage, columns=2, tile_width=120).shape[0] == 54 + 2 * 126 - 6 + 12


def test_film_has_one_even_picture_a_field(path: Path) -> None:
    with flowkit.open(path) as store:
        footage = Footage(store, "a/b", start=2, stop=5)
        pictures = list(film(footage, list(footage.range), tile_width=41))
    assert len(pictures) == 3
    assert len({picture.shape for picture in pictures}) == 1
    assert pictures[0].shape[0] % 2 == pictures[0].shape[1] % 2 == 0
    assert (pictures[0] != pictures[1]).any()


def test_scale_fits_the_video(path: Path) -> None:
    with flowkit.open(path) as store:
        assert Footage(store, "a/b").max_px == 3.0


def test_ranges_and_ids_that_are_not_there_are_refused(path: Path) -> None:
    with flowkit.open(path) as store:
        with pytest.raises(ClipRangeError, match=r"\[5, 5\)"):
            Footage(store, "a/b", start=5, stop=5)
        with pytest.raises(ClipRangeError, match="<= 8"):
            Footage(store, "a/b", stop=9)
        with pytest.raises(ClipRangeError, match="flow_backward"):
            Footage(store, "a/b", field="flow_backward")
        with pytest.raises(ClipNotFoundError):
            Footage(store, "nobody")


def test_disc_shows_the_direction_and_leaves_its_corners_blank() -> None:
    wheel = disc(60)
    assert tuple(wheel[0, 0]) == PAPER
    assert (wheel[30, 30] > 240).all()
    assert wheel[30, 57, 0] > 220
    assert wheel[30, 57, 1] < 80


def test_legend_is_as_tall_as_its_row_and_says_the_scale() -> None:
    assert legend(400, max_px=4).shape == (400, LEGEND_WIDTH, 3)
    assert (legend(400, max_px=4) != legend(400, max_px=8)).any()
    assert len(legend(10, max_px=4)) > 110  # the wheel needs its room


def test_unit_tells_the_step() -> None:
    assert (per_step(1), per_step(2)) == ("px/frame", "px/2 frames")


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
    picture = np.full((10, 20, 3), 77, np.uint8)
    assert fit(picture, 7, 3).shape == (3, 7, 3)
    assert (fit(picture, 40, 40) == 77).all()
    assert fit(picture, 20, 10) is picture


def test_png_comes_back_bit_for_bit(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "a.png", picture)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), picture)


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("a.png", "empty.png"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            read_rgb(tmp_path / name)
    with pytest.raises(InvalidParameterError, match=r"\.xyz"):
        write_picture(tmp_path / "a.xyz", np.zeros((2, 2, 3), np.uint8))
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
