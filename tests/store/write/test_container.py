"""A container by itself: what was copied is committed whole, and nothing stays of one that was not."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from flowkit.errors import (
    NoSpaceError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreOptionsError,
)
from flowkit.store import checked_hdf5, index
from flowkit.store.hdf5_file import OutFile
from flowkit.store.index import NO_SHARD
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.write import container
from flowkit.store.write.container import ContainerWriter, Lists
from flowkit.store.write.pack import write_container
from tests.store.conftest import MakePart, make_options
from tests.store.write.test_pack import chunks, held, part

FAILURE = Failure(source="x", reason="too_short")


@pytest.fixture
def lists(options: StoreOptions) -> Lists:
    return Lists(options=options, labels=("one", "two"), failures=(FAILURE,))


@pytest.fixture
def records(make_part: MakePart) -> dict[str, VideoRecord]:
    """The records of two parts, of seeds 1 and 2."""
    return {"a": make_part("a", seed=1), "b": make_part("b", seed=2)}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that no rename reaches, though it is on the same device: another mount of the file system."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    original = os.rename

    def rename(source: Path, target: Path) -> None:
        if (Path(source).parent == folder) != (Path(target).parent == folder):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    return folder


def temporaries(store_path: Path) -> list[str]:
    return [path.name for path in store_path.parent.rglob("*.tmp")]


def test_a_commit_leaves_one_file_with_the_videos_as_they_were_and_the_lists(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord]
) -> None:
    with ContainerWriter(store_path, lists.options) as file:
        for name in records:
            file.copy(part(store_path, name), {name: records[name]})
        assert file.videos == {name: part(store_path, name) for name in records}
        assert not store_path.exists()
        file.sync()
        file.commit(store_path, records, lists, number=NO_SHARD)
    assert not temporaries(store_path)
    assert held(store_path) == {"a": 1, "b": 2}
    with h5py.File(store_path) as made, h5py.File(part(store_path, "b")) as source:
        assert chunks(made, "b") == chunks(source, "b")
        assert index.read_labels(made) == ("one", "two")
        assert index.read_failures(made) == (FAILURE,)


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_an_interrupt_at_any_call_of_hdf5_leaves_the_store_or_nothing(
    store_path: Path,
    lists: Lists,
    records: dict[str, VideoRecord],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
) -> None:
    real, calls = OutFile.seek, 0

    def interrupted(self: OutFile, *args: int) -> int:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            signal.raise_signal(signal.SIGINT)
        return real(self, *args)

    monkeypatch.setattr(OutFile, "seek", interrupted)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with ContainerWriter(store_path, lists.options) as file:
            for name in records:
                file.copy(part(store_path, name), {name: records[name]})
            file.commit(store_path, records, lists, number=NO_SHARD)
        assert calls < at + 1, "it was lost"
        raise KeyboardInterrupt
    assert not temporaries(store_path)
    if store_path.exists():
        assert held(store_path) == {"a": 1, "b": 2}


def test_it_may_be_committed_under_another_name_as_a_shard(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    shard = tmp_path / "shards" / "00003.h5"
    with ContainerWriter(store_path, lists.options) as file:
        file.copy(part(store_path, "a"), {"a": records["a"]})
        file.commit(shard, {"a": records["a"]}, lists, number=3)
    with h5py.File(shard) as made:
        assert index.read_index(made) == ({"a": records["a"]}, {"a": 3})
    assert not store_path.exists()


def test_a_video_that_is_there_is_not_copied_again(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord]
) -> None:
    with ContainerWriter(store_path, lists.options) as file:
        file.copy(part(store_path, "a"), {"a": records["a"]})
        # HDF5 would refuse to copy over it; of another source too, the first stays.
        file.copy(part(store_path, "a"), {"a": records["a"]})
        file.copy(part(store_path, "b"), {"a": records["a"]})
        assert file.videos == {"a": part(store_path, "a")}
        file.copy(part(store_path, "b"), {"b": records["b"]})
        file.commit(store_path, records, lists, number=NO_SHARD)
    assert held(store_path) == {"a": 1, "b": 2}


def test_without_a_commit_nothing_stays(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord]
) -> None:
    with ContainerWriter(store_path, lists.options) as file:
        file.copy(part(store_path, "a"), {"a": records["a"]})
        assert temporaries(store_path)
    assert not temporaries(store_path)
    assert not store_path.exists()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("full disk", NoSpaceError),
        ("interrupted", KeyboardInterrupt),
        ("other options", StoreOptionsError),
        ("damaged", StoreError),
    ],
)
def test_a_copy_that_fails_discards_the_file(
    fault: str,
    expected: type[BaseException],
    store_path: Path,
    lists: Lists,
    records: dict[str, VideoRecord],
    make_part: MakePart,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = ContainerWriter(store_path, lists.options)
    file.copy(part(store_path, "a"), {"a": records["a"]})
    source = part(store_path, "b")
    if fault == "other options":
        make_part("b", options=make_options(jpeg_quality=80))
    elif fault == "damaged":
        source.write_bytes(b"no HDF5")
    else:

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "full") if fault == "full disk" else KeyboardInterrupt

        monkeypatch.setattr(container, "_copy_videos", fail)
    with pytest.raises(expected):
        file.copy(source, {"b": records["b"]})
    assert not temporaries(store_path)
    assert not file.can_become({part(store_path, name): [name] for name in records})
    file.discard()  # once more is no error


def test_a_commit_that_fails_discards_the_file_and_keeps_the_old_one(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    store_path.write_bytes(b"the old one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "rename", full)
    with ContainerWriter(store_path, lists.options) as file:
        file.copy(part(store_path, "a"), {"a": records["a"]})
        with pytest.raises(NoSpaceError, match=store_path.name):
            file.commit(store_path, {"a": records["a"]}, lists, number=NO_SHARD)
        assert not temporaries(store_path)
    assert store_path.read_bytes() == b"the old one"


def test_it_can_become_a_file_of_what_it_has_and_of_more(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], tmp_path: Path
) -> None:
    a, b = part(store_path, "a"), part(store_path, "b")
    with ContainerWriter(store_path, lists.options) as file:
        assert file.can_become({})
        file.copy(a, {"a": records["a"]})
        assert file.can_become({a: ["a"]})
        assert file.can_become({a: ["a"], b: ["b"]})
        assert not file.can_become({b: ["b"]}), "it has a video that is not wanted"
        assert not file.can_become({tmp_path / "newer.h5": ["a"]}), "the video is to come from another file"
    assert not file.can_become({a: ["a"]}), "it was discarded"


def test_a_begun_file_is_committed_with_what_it_lacks(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {part(store_path, name): [name] for name in records}
    copied: list[str] = []
    original = container._copy_videos

    def copy(
        file: StoreFile, copies: dict[str, VideoRecord], target: h5py.File, options: StoreOptions
    ) -> None:
        copied.extend(copies)
        original(file, copies, target, options)

    monkeypatch.setattr(container, "_copy_videos", copy)
    with ContainerWriter(store_path, lists.options) as begun:
        begun.copy(part(store_path, "a"), {"a": records["a"]})
        write_container(store_path, sources, records, lists, number=NO_SHARD, begun=begun)
    assert copied == ["a", "b"]
    assert held(store_path) == {"a": 1, "b": 2}


def test_where_no_rename_reaches_the_folder_the_file_is_written_there(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], elsewhere: Path
) -> None:
    sources = {part(store_path, name): [name] for name in records}
    with ContainerWriter(store_path, lists.options) as begun:
        begun.copy(part(store_path, "a"), {"a": records["a"]})
        write_container(elsewhere / "00000.h5", sources, records, lists, number=0, begun=begun)
    assert [path.name for path in elsewhere.iterdir()] == ["00000.h5"]
    assert not temporaries(store_path)
    with open_file(elsewhere / "00000.h5") as made:
        assert checked_hdf5.video_ids(made) == ["a", "b"]


def test_other_failures_of_the_rename_are_no_reason_to_write_again(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(os, "rename", refuse)
    sources = {part(store_path, name): [name] for name in records}
    with (
        ContainerWriter(store_path, lists.options) as begun,
        pytest.raises(PermissionError, match="refused"),
    ):
        write_container(store_path, sources, records, lists, number=NO_SHARD, begun=begun)
    assert not temporaries(store_path)


def external_link(file: h5py.File, other: Path) -> None:
    del file["videos/a"]
    file["videos/a"] = h5py.ExternalLink(str(other), "/videos/b")


def link_for_a_dataset(file: h5py.File, other: Path) -> None:
    del file["videos/a/flow"]
    file["videos/a/flow"] = h5py.ExternalLink(str(other), "/videos/b/flow")


def soft_link_for_a_dataset(file: h5py.File, other: Path) -> None:
    del file["videos/a/pts"]
    file["videos/a/pts"] = h5py.SoftLink("/nowhere")


def virtual_dataset(file: h5py.File, other: Path) -> None:
    del file["videos/a/pts"]
    layout = h5py.VirtualLayout(shape=(4,), dtype="<f8")
    layout[:] = h5py.VirtualSource(str(other), "/videos/b/pts", shape=(4,))
    file.create_virtual_dataset("videos/a/pts", layout)


def external_storage(file: h5py.File, other: Path) -> None:
    del file["videos/a/pts"]
    file.create_dataset("videos/a/pts", shape=(4,), dtype="<f8", external=[(str(other), 0, 32)])


def group_inside(file: h5py.File, other: Path) -> None:
    file.create_group("videos/a/more")


@pytest.mark.parametrize(
    "attack",
    [
        external_link,
        link_for_a_dataset,
        soft_link_for_a_dataset,
        virtual_dataset,
        external_storage,
        group_inside,
    ],
)
def test_nothing_is_copied_that_lies_outside_of_its_file(
    attack: Callable[[h5py.File, Path], None],
    store_path: Path,
    lists: Lists,
    records: dict[str, VideoRecord],
) -> None:
    hostile, other = part(store_path, "a"), part(store_path, "b")
    with h5py.File(hostile, "r+") as file:
        attack(file, other)
    with (
        ContainerWriter(store_path, lists.options) as writer,
        pytest.raises((StoreFormatError, StoreCorruptError)),
    ):
        writer.copy(hostile, {"a": records["a"]})
    assert not store_path.exists()
    assert not temporaries(store_path)


def test_a_copy_of_damaged_arrays_ends_with_the_damage_of_its_video(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord]
) -> None:
    path = part(store_path, "a")
    with h5py.File(path) as file:
        at = file["videos/a/flow_crc32"].id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1  # HDF5's own checksum of the dataset no longer holds
    path.write_bytes(raw)
    with ContainerWriter(store_path, lists.options) as file:
        file.copy(path, {"a": records["a"]})
        with pytest.raises(StoreCorruptError, match="video 'a' is damaged"):
            file.commit(store_path, {"a": records["a"]}, lists, number=NO_SHARD)
    assert not store_path.exists()
    assert not temporaries(store_path)


def test_a_copy_of_damaged_structures_ends_with_the_damage_of_its_source(
    store_path: Path, lists: Lists, records: dict[str, VideoRecord]
) -> None:
    path = part(store_path, "a")
    raw = path.read_bytes()
    found = 0
    for at in range(48, len(raw) - 4):
        if raw[at : at + 4] in (b"OHDR", b"BTHD", b"FRHP", b"FADB", b"FSHD"):
            path.write_bytes(raw[: at + 5] + bytes([raw[at + 5] ^ 255]) + raw[at + 6 :])
            with ContainerWriter(store_path, lists.options) as file:
                try:
                    file.copy(path, {"a": records["a"]})
                except StoreError:
                    found += 1
            assert not temporaries(store_path)
    assert found > 5
