from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowkit.errors import StoreFormatError, StoreUnreadableError
from flowkit.store.inventory import inventory, survey
from flowkit.store.parts_folder import PartsFolder, shards_path
from flowkit.store.record import Failure
from flowkit.store.schema import StoreOptions
from flowkit.store.write.container import Lists
from flowkit.store.write.pack import finalize, write_container

from .conftest import MakePart, MakeStore, make_record


def test_where_nothing_is_there_is_nothing(store_path: Path) -> None:
    found = inventory(store_path)
    assert (found.records, found.options, found.labels, found.failures) == ({}, None, (), ())
    assert not store_path.parent.joinpath("out.h5.parts").exists()


def test_parts_count_before_there_is_a_store(
    store_path: Path, make_part: MakePart, options: StoreOptions
) -> None:
    make_part("a/b")
    PartsFolder(store_path).segment_path("c", 0).touch()
    found = inventory(str(store_path))
    assert found.records == {"a/b": make_record("a/b")}
    assert found.paths == {"a/b": PartsFolder(store_path).part_path("a/b")}
    assert found.options == options


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_stored_videos_count_with_everything_that_is_said_of_them(
    make_store: MakeStore, options: StoreOptions, shard_bytes: int
) -> None:
    path = make_store("a", "b/c", shard_bytes=shard_bytes)
    found = inventory(path)
    assert found.records == {"a": make_record("a"), "b/c": make_record("b/c")}
    assert found.options == options
    shard = shards_path(path) / "00001.h5"
    assert found.paths["b/c"] == (shard if shard_bytes == 1 else path)


def test_of_a_part_and_a_stored_video_the_stored_counts(make_store: MakeStore, make_part: MakePart) -> None:
    path = make_store("a")
    make_part("a", backend="cuda")
    found = inventory(path)
    assert found.records["a"].backend == "cpu"
    assert found.repeated.keys() == {"a"}


def test_shards_that_no_master_names_count_by_their_number(make_store: MakeStore) -> None:
    """The state after a kill between a shard and the master."""
    path = make_store("a", "b", shard_bytes=1)
    shards = shards_path(path)
    shutil.copy(shards / "00001.h5", shards / "00005.h5")
    found = inventory(path)
    assert found.paths["b"] == shards / "00005.h5"
    files = survey(path)
    assert ([p.name for p in files.pending], files.next_shard) == (["00005.h5"], 6)
    path.unlink()
    assert inventory(path).records.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("newer", "expected"),
    [(("m", "z", "a", "b"), ("m", "z", "a", "b")), (("b", "z"), ("z", "a"))],
)
def test_class_names_are_those_of_a_newer_shard_that_has_all_of_them(
    newer: tuple[str, ...],
    expected: tuple[str, ...],
    make_store: MakeStore,
    make_part: MakePart,
    options: StoreOptions,
) -> None:
    path = make_store("a", shard_bytes=1)
    finalize(path, options=options, labels=("z", "a"))
    make_part("b")
    lists = Lists(options=options, labels=newer, failures=())
    shard, source = shards_path(path) / "00001.h5", PartsFolder(path).part_path("b")
    write_container(shard, {source: ["b"]}, {"b": make_record("b")}, lists, number=1)
    assert inventory(path).labels == expected


def test_replaced_shards_are_leftover(make_store: MakeStore, options: StoreOptions) -> None:
    path = make_store("a", "b", shard_bytes=1)
    old = (shards_path(path) / "00001.h5").read_bytes()
    finalize(path, options=options, drop={"b"})
    (shards_path(path) / "00001.h5").write_bytes(old)
    assert [p.name for p in survey(path).leftover] == ["00001.h5"]
    assert inventory(path).records.keys() == {"a"}
    finalize(path, options=options)
    assert survey(path).leftover == ()


def test_missing_shard_is_an_error_that_names_it(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    (shards_path(path) / "00000.h5").unlink()
    with pytest.raises(StoreUnreadableError, match=r"00000\.h5.*mount.*repair --lost"):
        inventory(path)


def test_foreign_file_is_no_empty_store(store_path: Path) -> None:
    store_path.write_text("my thesis")
    with pytest.raises(StoreFormatError, match="no flowkit store"):
        inventory(store_path)


def test_failures_come_from_the_store(make_store: MakeStore, options: StoreOptions) -> None:
    failure = Failure(source="x", reason="too_short", detail="1 frame")
    path = make_store("a")
    finalize(path, options=options, failures=[failure], labels=["one"])
    assert (inventory(path).failures, inventory(path).labels) == ((failure,), ("one",))
