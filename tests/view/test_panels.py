"""Strips and films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flowkit
from flowkit.view.footage import Footage
from flowkit.view.panels import film, strip
from flowkit.view.wheel import LEGEND_WIDTH, flow_to_rgb
from tests.make import stores


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels")
    return stores.write_store(folder / "s.h5", {"a/b": stores.steady(8, 3, 0, height=24, width=40)})


def test_strip_shows_frames_flow_and_magnitude(path: Path) -> None:
    with flowkit.open(path) as store:
        footage = Footage(store, "a/b", max_px=3.0)
        image = strip(footage, columns=3, tile_width=40)
        red = flow_to_rgb(store["a/b"].flow(0, 1)[0], max_px=3.0)[0, 0]
    # 6 px gap, rows of 24 px below a head of 54 px
    tile = image[54 : 54 + 24, 6:46]
    assert np.abs(tile.astype(int) - 10).max() <= 2  # frame 0 is grey 10; JPEG
    assert (image[54 + 30 : 54 + 54, 6:46] == red).all()
    last = image[54 : 54 + 24, 6 + 2 * 46 : 46 + 2 * 46]
    assert np.abs(last.astype(int) - 17).max() <= 2  # field 7 leads from frame 7
    assert image.shape[1] == 6 + 3 * 46 + LEGEND_WIDTH


def test_strip_without_frames_is_shorter_or_as_tall_as_its_legend(tmp_path: Path) -> None:
    videos = {"a": stores.steady(3, 1, 1, height=120, width=120)}
    bare = stores.write_store(tmp_path / "s.h5", videos, frames=False)
    with flowkit.open(bare) as store:
        footage = Footage(store, "a")
        assert footage.sample(0).frame is None
        assert strip(footage, columns=2, tile_width=120).shape[0] == 54 + 2 * 126 - 6 + 12


def test_film_has_one_even_image_a_field(path: Path) -> None:
    with flowkit.open(path) as store:
        footage = Footage(store, "a/b", start=2, stop=5)
        images = list(film(footage, list(footage.range), tile_width=41))
    assert len(images) == 3
    assert len({image.shape for image in images}) == 1
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0
    assert (images[0] != images[1]).any()
