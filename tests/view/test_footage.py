"""Samples of one video of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowkit
from flowkit.errors import ClipNotFoundError, ClipRangeError
from flowkit.view.footage import Footage
from tests.make import stores


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    return stores.write_store(folder / "s.h5", {"a/b": stores.steady(8, 3, 0, height=24, width=40)})


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
