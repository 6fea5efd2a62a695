"""A store goes on with the frames it was made with: scaler, pixels and deinterlacing, as it has them."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowkit
from flowkit import jpeg
from flowkit.errors import InvalidParameterError, StoreOptionsError
from flowkit.extraction.config import ExtractConfig, decided_frames, store_options
from flowkit.frames import resize
from flowkit.resize_rule import ResizeRule
from flowkit.store.schema import StoreOptions
from flowkit.typing import Decoder
from tests.make import clips
from tests.make.small import SMALL, run

TEXTURE = clips.moving_texture(4, height=96, width=128)
SHORT = ResizeRule(short_side=40)
BEFORE = dataclasses.replace(SHORT, pixels="stored", scaler="opencv")


def config_of(rule: ResizeRule, decoder: Decoder = "auto") -> ExtractConfig:
    return dataclasses.replace(SMALL, resize=rule, decoder=decoder)


def stored_rule(store: Path) -> dict[str, object]:
    with flowkit.open(store) as opened:
        rule: dict[str, object] = json.loads(opened.options.resize)
    return rule


def first_frame(store: Path, video: str) -> np.ndarray:
    with flowkit.open(store) as opened:
        image: np.ndarray = opened[video].frames([0])[0]
    return image


def decoded(path: Path) -> np.ndarray:
    with flowkit.open_video(path) as reader:
        return next(reader).rgb


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A video whose pixels are 3:2, and one of square pixels."""
    (tmp_path / "videos").mkdir()
    clips.write_video(tmp_path / "videos" / "wide.mp4", TEXTURE, pixel_aspect=Fraction(3, 2))
    clips.write_video(tmp_path / "videos" / "plain.mp4", TEXTURE)
    return tmp_path / "videos"


def test_a_new_store_has_square_pixels_scaled_by_swscale(wide: Path, store: Path) -> None:
    report = run(wide, store, config_of(SHORT))
    assert [outcome.warnings for outcome in report.outcomes] == [(), ()]
    assert stored_rule(store) | {"pixels": "square", "scaler": "swscale"} == stored_rule(store)
    with flowkit.open(store) as opened:
        sizes = {name: (clip.width, clip.height, clip.record.pixel_aspect) for name, clip in opened.items()}
    # 128x96 is shown as 192x96.
    assert sizes == {"wide": (80, 40, 1.5), "plain": (53, 40, 1.0)}


def test_each_scaler_stores_its_own_pixels(wide: Path, tmp_path: Path) -> None:
    plain = wide / "plain.mp4"
    run(wide, tmp_path / "old.h5", config_of(BEFORE))
    expected = jpeg.decode(jpeg.encode(resize(decoded(plain), (53, 40))))
    np.testing.assert_array_equal(first_frame(tmp_path / "old.h5", "plain"), expected)
    run(wide, tmp_path / "new.h5", config_of(SHORT))
    with flowkit.open_video(plain) as reader:
        expected = jpeg.decode(jpeg.encode(next(reader.lazy()).to_rgb((53, 40))))
    np.testing.assert_array_equal(first_frame(tmp_path / "new.h5", "plain"), expected)


def test_an_older_store_is_resumed_with_its_own_pixels(wide: Path, store: Path) -> None:
    run(wide, store, config_of(BEFORE))
    before = stored_rule(store)
    assert before == {"interpolation": "auto", "mode": "short_side", "short_side": 40}
    clips.write_video(wide / "wider.mp4", TEXTURE, pixel_aspect=Fraction(3, 2))
    report = run(wide, store, config_of(SHORT))
    assert (report.stored, report.already_stored, stored_rule(store)) == (1, 2, before)
    np.testing.assert_array_equal(first_frame(store, "wider"), first_frame(store, "wide"))
    assert "64x48" not in str(report.outcomes[0].warnings)
    assert "128x96 is shown as 192x96" in str(report.outcomes[0].warnings)


@pytest.mark.parametrize(
    ("first", "change", "words"),
    [
        (BEFORE, {"scaler": "swscale"}, "resize.scaler: stored 'opencv', asked 'swscale'"),
        (BEFORE, {"pixels": "square"}, "resize.pixels: stored 'stored', asked 'square'"),
        (SHORT, {"pixels": "stored"}, "resize.pixels: stored 'square', asked 'stored'"),
        (SHORT, {"scaler": "opencv"}, "resize.scaler: stored 'swscale', asked 'opencv'"),
    ],
)
def test_another_choice_than_the_stores_is_refused(
    wide: Path, store: Path, first: ResizeRule, change: dict[str, Any], words: str
) -> None:
    run(wide, store, config_of(first))
    with pytest.raises(StoreOptionsError) as caught:
        run(wide, store, config_of(dataclasses.replace(SHORT, **change)))
    assert words in str(caught.value)


def test_opencv_cannot_go_on_with_a_store_of_swscale(wide: Path, store: Path) -> None:
    run(wide, store, config_of(SHORT))
    with pytest.raises(InvalidParameterError, match="that of the store, needs decoder 'av', got 'opencv'"):
        run(wide, store, config_of(SHORT, "opencv"))
    with pytest.raises(InvalidParameterError, match="'swscale', asked for, needs decoder 'av'"):
        decided_frames(config_of(ResizeRule(scaler="swscale")), None, decoder="opencv")


def test_opencv_decodes_into_a_store_of_opencvs_pixels(wide: Path, tmp_path: Path) -> None:
    run(wide, tmp_path / "cv.h5", config_of(SHORT, "opencv"))
    run(wide, tmp_path / "av.h5", config_of(dataclasses.replace(SHORT, scaler="opencv")))
    assert stored_rule(tmp_path / "cv.h5") == stored_rule(tmp_path / "av.h5")
    for name in ("wide", "plain"):
        by_opencv, by_av = (first_frame(tmp_path / store, name) for store in ("cv.h5", "av.h5"))
        np.testing.assert_array_equal(by_opencv, by_av)


def test_a_rule_of_another_version_is_left_to_the_comparison() -> None:
    stored = dataclasses.replace(store_options(SMALL, backend="cpu"), resize='{"resize": "imported"}')
    decided = decided_frames(SMALL, stored, decoder="av")
    assert (decided.resize.pixels, decided.resize.scaler) == ("square", "swscale")


def test_sideways_pixels_are_stretched_as_they_stand(tmp_path: Path, store: Path) -> None:
    (tmp_path / "videos").mkdir()
    stored = clips.lying(TEXTURE, 90, False)
    with_matrix = [0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30]
    clips.write_video(
        tmp_path / "videos" / "a.mp4", stored, pixel_aspect=Fraction(3, 2), display_matrix=with_matrix
    )
    run(tmp_path / "videos", store, config_of(ResizeRule(short_side=60)))
    with flowkit.open(store) as opened:
        clip = opened["a"]
        # Upright, 128x96 of pixels 2:3, shown as 128x144.
        assert (clip.record.source_width, clip.record.source_height) == (128, 96)
        assert (clip.width, clip.height) == (60, 68)


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """An interlaced video."""
    (tmp_path / "videos").mkdir()
    clips.interlaced(tmp_path / "videos" / "a.mpg", TEXTURE)
    return tmp_path / "videos"


def test_a_deinterlaced_store_goes_on_so(fields: Path, store: Path) -> None:
    config = config_of(SHORT)
    report = run(fields, store, dataclasses.replace(config, deinterlace=True))
    assert report.outcomes[0].warnings == ()
    clips.interlaced(fields / "b.mpg", TEXTURE)
    assert run(fields, store, config).stored == 1
    with flowkit.open(store) as opened:
        assert json.loads(opened.options.sampling) == {"deinterlace": True, "fps": None}
        assert [clip.record.interlaced for clip in opened.values()] == [0, 0]
    np.testing.assert_array_equal(first_frame(store, "b"), first_frame(store, "a"))
    with pytest.raises(StoreOptionsError, match=r"sampling\.deinterlace: stored True, asked False"):
        run(fields, store, dataclasses.replace(config, deinterlace=False))
    with pytest.raises(InvalidParameterError, match="deinterlace, that of the store, needs decoder 'av'"):
        decided_frames(config_of(BEFORE, "opencv"), store_options_of(store), decoder="opencv")


def store_options_of(store: Path) -> StoreOptions:
    with flowkit.open(store) as opened:
        return dataclasses.replace(opened.options, resize=BEFORE.to_json())


def test_without_deinterlacing_a_store_says_what_it_has_and_how_to_change_it(
    fields: Path, store: Path
) -> None:
    report = run(fields, store, config_of(SHORT))
    assert "4 of 4 frames are interlaced" in report.outcomes[0].warnings[0]
    assert "--deinterlace, into another file" in report.outcomes[0].warnings[0]
    with flowkit.open(store) as opened:
        assert json.loads(opened.options.sampling) == {"fps": None}
        assert opened["a"].record.interlaced == 1
    with pytest.raises(StoreOptionsError, match=r"sampling\.deinterlace: stored False, asked True"):
        run(fields, store, dataclasses.replace(config_of(SHORT), deinterlace=True))
