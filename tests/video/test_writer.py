from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError, VideoError
from flowkit.typing import UInt8
from flowkit.video.writer import write_film
from tests.make import clips


def read_back(path: Path) -> tuple[list[NDArray[np.uint8]], float]:
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        images = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in film.decode(stream)]
        assert stream.average_rate is not None
        return images, float(stream.average_rate)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_every_image_comes_back_in_order(tmp_path: Path, suffix: str) -> None:
    images = clips.numbered_flashes(9)
    path = tmp_path / f"film{suffix}"
    assert write_film(path, images, fps=10) == 9
    found, rate = read_back(path)
    assert clips.flash_numbers(found) == list(range(9))
    assert rate == 10


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_film_that_is_there_stays_until_the_new_one_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    path.write_bytes(b"old")

    def images() -> Iterator[UInt8]:
        yield from clips.numbered_flashes(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(path, images(), fps=5)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_gif_keeps_colours_that_fit_a_palette(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :8], image[8:, 8:] = (255, 0, 0), (0, 0, 255)
    write_film(tmp_path / "a.gif", [image, image], fps=5)
    found, _ = read_back(tmp_path / "a.gif")
    assert np.abs(found[0].astype(int) - image).max() <= 8  # grey levels


def test_what_no_film_can_be_is_refused(tmp_path: Path) -> None:
    images = clips.numbered_flashes(2)
    with pytest.raises(InvalidParameterError, match=r"\.mp4, \.gif"):
        write_film(tmp_path / "a.avi", images, fps=5)
    with pytest.raises(InvalidParameterError, match="fps"):
        write_film(tmp_path / "a.mp4", images, fps=0)
    with pytest.raises(InvalidParameterError, match="no image"):
        write_film(tmp_path / "a.mp4", [], fps=5)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises((VideoError, OSError), match="gone"):
        write_film(tmp_path / "gone" / "a.mp4", clips.numbered_flashes(2), fps=5)
