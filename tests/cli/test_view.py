"""`flowkit view` and `flowkit flow`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError
from flowkit.flow_files.flo import read_flo
from flowkit.frames import to_grey
from flowkit.tvl1.flow import tvl1_flow
from flowkit.tvl1.params import PRESETS
from flowkit.view.canvas import read_rgb, write_image
from flowkit.view.wheel import LEGEND_WIDTH
from flowkit_cli import flow, view
from tests.make import clips, stores


@pytest.fixture
def store(tmp_path: Path) -> Path:
    videos = {"a/b": stores.noise(8, 0, height=24, width=40), "c": stores.steady(3, 1, 0)}
    return stores.write_store(tmp_path / "s.h5", videos)


def run_view(*words: object) -> Result:
    return CliRunner().invoke(view.command, [str(word) for word in words], catch_exceptions=False)


def run_flow(*words: object) -> Result:
    return CliRunner().invoke(flow.command, [str(word) for word in words], catch_exceptions=False)


def test_strip_is_named_after_the_video(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    done = run_view(store, "a/b", "--columns", 2, "--width", 64)
    assert done.output == "a_b.png\n"
    width = read_rgb(store.parent / "a_b.png").shape[1]
    assert 2 * 64 + LEGEND_WIDTH < width < 3 * 64 + LEGEND_WIDTH


@pytest.mark.parametrize(("suffix", "images"), [("mp4", 8), ("gif", 4)])
def test_film_has_as_many_images_as_asked_for_and_plays_as_long(
    store: Path, suffix: str, images: int
) -> None:
    out = store.parent / f"film.{suffix}"
    run_view(store, "a/b", "-o", out, "--pictures", images, "--width", 64)
    with av.open(str(out)) as film:
        stream = film.streams.video[0]
        assert stream.average_rate == 25 * images / 8
        assert sum(1 for _ in film.decode(stream)) == images


def test_html_reports_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    done = run_view(store, "--html", "--jobs", 1)
    assert done.output.splitlines()[-1] == "s.h5.html"
    html = (store.parent / "s.h5.html").read_text()
    assert '"a/b"' in html


@pytest.mark.parametrize("words", [[], ["c", "--html"]])
def test_either_a_video_or_the_page_is_asked_for(store: Path, words: list[str]) -> None:
    done = run_view(store, *words)
    assert done.exit_code == 2
    assert "VIDEO_ID" in done.output


def test_unknown_video_is_refused(store: Path) -> None:
    with pytest.raises(ClipNotFoundError, match="did you mean 'a/b'"):
        run_view(store, "a/bb")


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    first, second = clips.moving_texture(2, height=40, width=56)
    paths = tmp_path / "0.png", tmp_path / "1.png"
    for path, image in zip(paths, (first, second), strict=True):
        write_image(path, image)
    return paths


def test_flow_of_two_images_is_the_librarys(images: tuple[Path, Path], tmp_path: Path) -> None:
    done = run_flow(*images, "-o", tmp_path / "f.flo", "--preset", "fast", "--warps", 3, "--json")
    facts = json.loads(done.stdout)
    written = read_flo(tmp_path / "f.flo")
    grey = [to_grey(read_rgb(path)) for path in images]
    params = replace(PRESETS["fast"], warps=3)
    assert np.array_equal(written, tvl1_flow(*grey, params=params))
    assert facts["max_px"] == pytest.approx(float(np.hypot(*written).max()))
    assert (facts["width"], facts["height"]) == (56, 40)
    assert facts["backend"]


def test_flow_as_an_image_has_frame_flow_magnitude_and_legend(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    done = run_flow(*images, "-o", tmp_path / "f.png", "--preset", "fast")
    assert "max" in done.output
    assert "backend" in done.output
    # Three panels of at least 160 px.
    assert read_rgb(tmp_path / "f.png").shape[1] > 3 * 160 + LEGEND_WIDTH


def test_images_of_two_sizes_and_other_files_are_refused(images: tuple[Path, Path], tmp_path: Path) -> None:
    write_image(tmp_path / "small.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(InvalidParameterError, match="one shape"):
        run_flow(images[0], tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match="not an image"):
        run_flow(images[0], tmp_path / "text.png")
