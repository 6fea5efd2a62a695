"""The files of a store, each written whole: contents, links, digests, and what stays after a failure."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import NoSpaceError, StoreOptionsError
from flowkit.store import checked_hdf5, index
from flowkit.store.inventory import survey
from flowkit.store.parts_folder import PartsFolder, shards_path
from flowkit.store.record import Failure
from flowkit.store.schema import StoreOptions
from flowkit.store.write.store_files import (
    Lists,
    file_sha256,
    ledger_path,
    link_or_copy,
    write_container,
    write_ledger,
    write_master,
)
from tests.store.conftest import MakePart, MakeStore, make_options, make_record

FAILURES = (
    Failure(source="ü.avi", reason="unopenable", detail="two\nlines"),
    Failure(source="x", reason="too_short"),
)


@pytest.fixture
def lists(options: StoreOptions) -> Lists:
    return Lists(options=options, labels=("one", "two"), failures=FAILURES)


def part(store_path: Path, video_id: str) -> Path:
    return PartsFolder(store_path).part_path(video_id)


def chunks(file: h5py.File, video_id: str) -> list[bytes]:
    dataset = file[f"videos/{video_id}/flow"]
    return [dataset.id.read_direct_chunk((k, 0, 0, 0))[1] for k in range(len(dataset))]


def test_a_container_has_the_videos_of_its_sources_as_they_are_stored(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    records = {"b/x": make_part("b/x", seed=1), "a": make_part("a", seed=2)}
    made = tmp_path / "made.h5"
    write_container(made, {part(store_path, k): [k] for k in records}, records, lists, number=4)
    with h5py.File(made) as file:
        for video_id in records:
            with h5py.File(part(store_path, video_id)) as source:
                assert chunks(file, video_id) == chunks(source, video_id)
                assert np.array_equal(file[f"videos/{video_id}/frames"], source[f"videos/{video_id}/frames"])
        assert index.read_index(file) == (records, {"b/x": 4, "a": 4})
        assert list(index.read_index(file)[0]) == ["b/x", "a"]
        assert (index.read_labels(file), index.read_failures(file)) == (lists.labels, FAILURES)
        assert checked_hdf5.read_options(file) == lists.options
        assert file["index"].attrs["file_bytes"] == made.stat().st_size
        assert "shard_table" not in file


def test_a_container_takes_the_chosen_videos_of_a_source_only(
    make_store: MakeStore, tmp_path: Path, lists: Lists
) -> None:
    made = tmp_path / "made.h5"
    write_container(made, {make_store("a", "b", "c"): ["c", "a"]}, {k: make_record(k) for k in "ac"}, lists)
    with h5py.File(made) as file:
        assert checked_hdf5.video_ids(file) == ["a", "c"]
        assert index.read_index(file)[1] == dict.fromkeys("ac", index.NO_SHARD)


def test_records_overwrite_those_of_relabelled_videos_and_of_no_others(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    old = {k: make_part(k) for k in "ab"}
    new = {k: make_record(k, label="new") for k in "ab"}
    made = tmp_path / "made.h5"
    sources = {part(store_path, k): [k] for k in "ab"}
    write_container(made, sources, new, lists, relabelled=["a"])
    with h5py.File(made) as file:
        assert checked_hdf5.read_record(file, "a") == new["a"]
        assert checked_hdf5.read_record(file, "b") == old["b"]


def test_a_source_of_other_options_is_refused_and_the_old_file_stays(
    make_part: MakePart, store_path: Path, tmp_path: Path, lists: Lists
) -> None:
    records = {"a": make_part("a"), "b": make_part("b", options=make_options(jpeg_quality=80))}
    made = tmp_path / "made.h5"
    made.write_text("as before")
    with pytest.raises(StoreOptionsError, match=r"other options: jpeg_quality: stored 80, asked 95"):
        write_container(made, {part(store_path, k): [k] for k in "ab"}, records, lists)
    assert made.read_text() == "as before"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_master_links_each_video_and_each_shard(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b/x", "c", shard_bytes=1)
    records = {k: make_record(k) for k in ("a", "b/x")}
    write_master(survey(path), records, {"a": 0, "b/x": 1}, lists)
    with h5py.File(path) as file:
        links = {name: file.get(name, getlink=True) for name in ("videos/a", "videos/b/x", "shards/00001")}
        assert {name: (link.filename, link.path) for name, link in links.items()} == {
            "videos/a": ("out.h5.shards/00000.h5", "/videos/a"),
            "videos/b/x": ("out.h5.shards/00001.h5", "/videos/b/x"),
            "shards/00001": ("out.h5.shards/00001.h5", "/"),
        }
        assert sorted(file["shards"]) == ["00000", "00001"]
        assert index.read_index(file) == (records, {"a": 0, "b/x": 1})
        assert (index.read_labels(file), index.read_failures(file)) == (lists.labels, FAILURES)
    for shard in survey(path).table:
        content = (shards_path(path) / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_number_of_the_next_shard_never_falls(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b", "c", shard_bytes=1)
    assert survey(path).next_shard == 3
    write_master(survey(path), {"a": make_record("a")}, {"a": 0}, lists)
    assert survey(path).next_shard == 3
    files = survey(path)  # before the shard is written, as a pack does
    (shards_path(path) / "00002.h5").rename(shards_path(path) / "00007.h5")
    write_master(files, {"c": make_record("c")}, {"c": 7}, lists)
    with h5py.File(path) as file:
        assert file.attrs["next_shard"] == 8


def test_a_digest_is_made_anew_only_where_the_size_differs(make_store: MakeStore, lists: Lists) -> None:
    path = make_store("a", "b", shard_bytes=1)
    records, shards = {k: make_record(k) for k in "ab"}, {"a": 0, "b": 1}
    before = {shard.name: shard.sha256 for shard in survey(path).table}
    first, second = (shards_path(path) / name for name in before)
    first.write_bytes(b"x" * first.stat().st_size)  # a committed shard never changes: not read again
    second.write_bytes(second.read_bytes() + b"x")
    write_master(survey(path), records, shards, lists)
    after = {shard.name: shard.sha256 for shard in survey(path).table}
    assert after == {first.name: before[first.name], second.name: file_sha256(second)}
    assert after[second.name] != before[second.name]


def test_sha256_is_that_of_fips_180(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3_000_000))
    assert file_sha256(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()


def test_a_second_name_is_a_link_to_the_same_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    link_or_copy(source, target)
    assert target.samefile(source)


def test_where_links_are_impossible_a_copy_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    target.write_text("old")
    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, target)
    assert target.read_text() == "content"
    assert not target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_full_disk_is_no_reason_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(NoSpaceError, match=r"no space left to write .*b: .*free some space"):
        link_or_copy(source, target)
    assert not target.exists()


def test_the_ledger_has_one_json_object_a_line(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, FAILURES)
    assert ledger_path(store) == tmp_path / "out.h5.failures.jsonl"
    lines = ledger_path(store).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"source": "ü.avi", "reason": "unopenable", "detail": "two\nlines"},
        {"source": "x", "reason": "too_short", "detail": ""},
    ]


def test_the_ledger_is_rewritten_only_for_other_failures(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, FAILURES)
    first = ledger_path(store).stat().st_ino
    write_ledger(store, FAILURES)
    assert ledger_path(store).stat().st_ino == first
    write_ledger(store, FAILURES[:1])
    assert len(ledger_path(store).read_text(encoding="utf-8").splitlines()) == 1


def test_without_failures_there_is_no_ledger(tmp_path: Path) -> None:
    store = tmp_path / "out.h5"
    write_ledger(store, ())
    assert not ledger_path(store).exists()
    write_ledger(store, FAILURES)
    write_ledger(store, ())
    assert list(tmp_path.iterdir()) == []
