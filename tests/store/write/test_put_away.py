"""Removing files that others replaced."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest

from flowkit.errors import StoreUnreadableError
from flowkit.store.parts_folder import shards_path
from flowkit.store.read.store import open_store
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.put_away import broken_path, free_place, put_away
from tests.make.stores import change_metadata
from tests.store.conftest import MakePart, MakeStore


def test_a_file_whose_videos_are_settled_goes(make_store: MakeStore, tmp_path: Path) -> None:
    path = make_store("a", "b")
    put_away(path, {"a", "b", "c"}, tmp_path / "broken")
    assert not path.exists()
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize("fault", ["another video", "damaged"])
def test_one_with_another_video_or_damage_moves_aside(
    fault: str, make_store: MakeStore, tmp_path: Path
) -> None:
    path = make_store("a", "b")
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    raw = path.read_bytes()
    put_away(path, {"a"} if fault == "another video" else {"a", "b"}, tmp_path / "broken")
    assert not path.exists()
    assert (tmp_path / "broken" / "out.h5").read_bytes() == raw


def test_one_that_cannot_be_read_now_stays(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_store("a")

    def refused(_: Path) -> None:
        raise StoreUnreadableError("no permission")

    monkeypatch.setattr("flowkit.store.write.put_away.open_file", refused)
    put_away(path, {"a"}, path.parent / "broken")
    assert path.exists()


def test_places_are_free(tmp_path: Path) -> None:
    for expected in ("x.h5", "x-1.h5", "x-2.h5"):
        place = free_place(tmp_path / "broken", tmp_path / "x.h5")
        assert place.name == expected
        place.touch()


def test_packing_keeps_replaced_shards_with_videos_that_it_does_not_have(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("a", "b", "z", shard_bytes=1)
    shards = shards_path(path)
    with_z = (shards / "00002.h5").read_bytes()
    finalize(path, options=options, shard_bytes=1, drop={"z"})
    with h5py.File(path, "r+") as file:
        change_metadata(file, next_shard=10)
    (shards / "00007.h5").write_bytes((shards / "00000.h5").read_bytes())
    (shards / "00008.h5").write_bytes(with_z)
    (shards / "00009.h5").write_bytes(with_z)
    os.truncate(shards / "00009.h5", 100)
    make_part("c")
    finalize(path, options=options, shard_bytes=1)
    with open_store(path) as store:
        assert sorted(store) == ["a", "b", "c"]
    assert sorted(file.name for file in broken_path(path).iterdir()) == ["00008.h5", "00009.h5"]
    assert sorted(file.name for file in shards.iterdir()) == ["00000.h5", "00001.h5", "00010.h5"]


def test_videos_that_are_dropped_on_purpose_are_not_put_aside(
    make_store: MakeStore, options: StoreOptions
) -> None:
    path = make_store("a", "z", shard_bytes=1)
    finalize(path, options=options, shard_bytes=1, drop={"z"})
    assert [file.name for file in shards_path(path).iterdir()] == ["00000.h5"]
    assert not broken_path(path).exists()
