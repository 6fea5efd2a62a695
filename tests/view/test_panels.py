"""Strips and films."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import flowkit
from flowkit.typing import UInt8
from flowkit.view.footage import Footage
from flowkit.view.panels import film, strip
from flowkit.view.wheel import LEGEND_WIDTH, flow_to_rgb, legend, magnitude_to_rgb
from tests.make import stores


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels")
    return stores.write_store(folder / "s.h5", {"a/b": stores.steady(8, 3, 0, height=24, width=40)})


def positions(image: UInt8, tile: UInt8) -> list[tuple[int, int]]:
    """Return (x, y) of each copy of a tile in an image, from left to right."""
    distance = cv2.matchTemplate(image, tile, cv2.TM_SQDIFF)
    height, width = tile.shape[:2]
    near = np.argwhere(distance < 0.5 * tile.size)  # float32 sums: exact equality is tested below
    found = [(int(x), int(y)) for y, x in near if (image[y : y + height, x : x + width] == tile).all()]
    return sorted(found)


def test_strip_shows_frames_flow_and_magnitude(path: Path) -> None:
    with flowkit.open(path) as store:
        footage, clip = Footage(store, "a/b", max_px=3.0), store["a/b"]
        image = strip(footage, columns=3, tile_width=clip.width)
        indices = footage.spread(3)
        # Field k leads from frame k.
        frames = [positions(image, clip.frames([k])[0]) for k in indices]
        flow = positions(image, flow_to_rgb(clip.flow(0, 1)[0], max_px=3.0))
        magnitude = positions(image, magnitude_to_rgb(clip.flow(0, 1)[0], max_px=3.0))
    assert indices[0] == 0
    assert indices[-1] == clip.n_flow - 1
    assert [len(found) for found in frames] == [1, 1, 1]
    columns = [x for ((x, _),) in frames]
    assert columns == sorted(columns)
    assert columns == [x for x, _ in flow] == [x for x, _ in magnitude]
    tops = [{y for ((_, y),) in frames}, {y for _, y in flow}, {y for _, y in magnitude}]
    first, second, third = (top for (top,) in tops)
    assert first + clip.height <= second <= third - clip.height
    assert image.shape[1] >= columns[-1] + clip.width + LEGEND_WIDTH


def test_strip_without_frames_is_a_row_shorter_or_as_tall_as_its_legend(tmp_path: Path) -> None:
    videos = {"a": stores.steady(3, 1, 1, height=120, width=120)}
    paths = [stores.write_store(tmp_path / f"{kept}.h5", videos, frames=kept) for kept in (True, False)]
    heights: dict[int, list[int]] = {120: [], 12: []}
    for path in paths:
        with flowkit.open(path) as store:
            for width, found in heights.items():
                found.append(len(strip(Footage(store, "a"), columns=2, tile_width=width)))
    with flowkit.open(paths[1]) as store:
        assert Footage(store, "a").sample(0).frame is None
    full, bare = heights[120]
    assert 120 <= full - bare < 150  # a row of tiles and the gap below it
    assert heights[12][1] > len(legend(1, max_px=1))


def test_film_has_one_even_image_a_field(path: Path) -> None:
    with flowkit.open(path) as store:
        footage = Footage(store, "a/b", start=2, stop=5)
        images = list(film(footage, list(footage.range), tile_width=41))
    assert len(images) == 3
    assert len({image.shape for image in images}) == 1
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0
    assert (images[0] != images[1]).any()
