"""A store keeps the revision of the numerics that made its flow, and another does not go on with it."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

import flowkit
from flowkit.errors import StoreOptionsError
from flowkit.extraction import config as configuration
from flowkit.extraction.config import ExtractConfig
from flowkit.extraction.run import extract
from flowkit.store.schema import FIRST_REVISION, REVISION
from tests.make import clips
from tests.make.small import NATIVE


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    clips.mpeg4_avi(tmp_path / "videos" / "a.avi", clips.moving_texture(3, height=24, width=32))
    return tmp_path / "videos"


def make_store(videos: Path, store: Path, monkeypatch: pytest.MonkeyPatch, *, revision: int) -> None:
    monkeypatch.setattr(configuration, "NUMERICS_REVISION", revision)
    assert not extract(videos, store, config=ExtractConfig(resize=NATIVE, jobs=1)).failures


def test_the_first_revision_is_not_written(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(videos, tmp_path / "out.h5", monkeypatch, revision=FIRST_REVISION)
    with h5py.File(tmp_path / "out.h5") as file:
        assert REVISION not in file.attrs
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store.options.numerics_revision == FIRST_REVISION


def test_a_later_revision_is_written_and_goes_on_with_itself(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        make_store(videos, tmp_path / "out.h5", monkeypatch, revision=7)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs[REVISION] == 7
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store.options.numerics_revision == 7


@pytest.mark.parametrize(("stored", "asked"), [(1, 2), (2, 1), (2, 3)])
def test_another_revision_does_not_go_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: int, asked: int
) -> None:
    make_store(videos, tmp_path / "out.h5", monkeypatch, revision=stored)
    with pytest.raises(StoreOptionsError, match=f"numerics_revision: stored {stored}, asked {asked}"):
        make_store(videos, tmp_path / "out.h5", monkeypatch, revision=asked)
