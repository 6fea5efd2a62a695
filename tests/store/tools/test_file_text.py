"""Damage of text, tables and metadata: found, and made anew from what its checksums prove."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import shards_path
from flowkit.store.read.store import open_store
from flowkit.store.record import VideoRecord
from flowkit.store.tools.file_text import head_problems, read_text
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from tests.make.stores import make_format_1_0
from tests.store.conftest import MakeStore, make_record

_IDS = ("x/a", "y/b", "y/c")


def address(path: Path, name: str) -> int:
    with h5py.File(path) as file:
        return int(file[name].id.get_offset())


def damage(path: Path, what: str) -> None:
    raw = bytearray(path.read_bytes())
    at = address(path, what if what != "heap" else "metadata") + 10
    if what == "heap":  # the attributes' text, not the block's
        places = (raw.find(b"half to even"), raw.rfind(b"half to even"))
        at = places[0] if places[0] < at else places[1]
    raw[at] ^= 2
    path.write_bytes(raw)


def values(path: Path) -> dict[str, object]:
    with open_store(path) as store:
        found: dict[str, object] = {k: (clip.record, clip.flow().tobytes()) for k, clip in store.items()}
        return {**found, "options": store.options, "labels": store.labels}


@pytest.mark.parametrize("what", ["heap", "metadata", "index/videos", "labels", "index/file_crc32"])
@pytest.mark.parametrize("where", ["single", "master", "shard"])
def test_what_is_damaged_beside_the_videos_is_made_anew(make_store: MakeStore, what: str, where: str) -> None:
    path = make_store(*_IDS, **({} if where == "single" else {"shard_bytes": 1}))
    before = values(path)
    hurt = shards_path(path) / "00001.h5" if where == "shard" else path
    if what == "index/file_crc32":
        raw = bytearray(hurt.read_bytes())
        raw[address(hurt, what)] ^= 2
        hurt.write_bytes(raw)
    else:
        damage(hurt, what)
    report = verify(path)
    assert not report.sound
    assert not report.videos
    done = repair(path)
    assert (done.dropped, done.kept, done.rewritten) == ((), 3, True)
    assert verify(path).sound
    assert values(path) == before


def test_records_are_those_of_the_index_where_it_holds(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    damage(path, "heap")
    with open_file(path) as file:
        text = read_text(file, ["a", "b"])
    assert text.records == {k: make_record(k) for k in "ab"}
    assert text.indexed == ("a", "b")
    assert len(text.problems) == 1


def test_without_an_index_they_are_those_of_the_groups(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    damage(path, "index/videos")
    with open_file(path) as file:
        text = read_text(file, ["a", "b"])
    assert text.records == {k: make_record(k) for k in "ab"}
    assert text.indexed is None


def test_of_format_1_0_they_are_those_of_the_groups_too(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    with h5py.File(path, "r+") as file:
        make_format_1_0(file)
    with open_file(path) as file:
        text = read_text(file, ["a", "b"])
    assert all(isinstance(record, VideoRecord) for record in text.records.values())
    assert text.problems == ()
    with h5py.File(path, "r+") as file:
        file["videos/a"].attrs["label"] = "new"
    with open_file(path) as file:
        assert "the group of 'a' differ" in read_text(file, ["a", "b"]).problems[0]


def test_a_store_that_another_program_wrote_anew_is_sound_if_its_text_agrees(make_store: MakeStore) -> None:
    path = make_store("a", "b")
    copy = path.with_name("copy.h5")
    with h5py.File(path) as old, h5py.File(copy, "w", libver=("v110", "v110")) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        new["padding"] = b"x" * 5000
    assert verify(copy).sound
    with h5py.File(copy, "r+") as file:
        file["videos/b"].attrs["source_name"] = "another"
    assert not verify(copy).sound


def test_of_a_master_its_metadata_and_all_bytes_count(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    with open_file(path) as file:
        assert head_problems(file) == []
    damage(path, "heap")
    with open_file(path) as file:
        assert "outside its chunks" in head_problems(file)[0]
