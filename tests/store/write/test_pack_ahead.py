"""Parts packed before the end of a run: the same store as of all at once, and nothing is lost on the way."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import h5py
import pytest

from flowkit import atomic
from flowkit.errors import NoSpaceError
from flowkit.store.inventory import inventory, shard_files, survey
from flowkit.store.open_file import StoreFile
from flowkit.store.parts_folder import PartsFolder, shards_path
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.tools.verify import verify
from flowkit.store.write import container
from flowkit.store.write.container import ContainerWriter
from flowkit.store.write.pack import finalize
from flowkit.store.write.pack_ahead import PackAhead
from tests.store.conftest import MakePart, MakeStore, make_options
from tests.store.write.test_pack import chunks, held, part

LARGE = 1 << 30


def packing(path: Path, options: StoreOptions, shard_bytes: int = LARGE) -> PackAhead:
    return PackAhead(path, options, labels=(), shard_bytes=shard_bytes)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that were copied, in their order."""
    found: list[str] = []
    original = container._copy_videos

    def copy(file: StoreFile, records: dict[str, VideoRecord], *rest: Any) -> None:
        found.extend(records)
        original(file, records, *rest)

    monkeypatch.setattr(container, "_copy_videos", copy)
    return found


def test_each_part_is_copied_once_and_the_store_is_that_of_packing_at_the_end(
    make_part: MakePart, store_path: Path, options: StoreOptions, copied: list[str], tmp_path: Path
) -> None:
    with packing(store_path, options) as ahead:
        for seed, video_id in enumerate(("b", "a/x", "c")):
            make_part(video_id, seed=seed)
            ahead.add(part(store_path, video_id))
        made = ahead.finish()
        assert copied == ["b", "a/x", "c"]
        assert made.begun is not None
        assert inventory(store_path).records.keys() == {"a/x", "b", "c"}, "parts stay until the commit"
        # A part that this run was not told of is packed too.
        make_part("d", seed=3)
        finalize(store_path, options=options, ahead=made)
    assert copied == ["b", "a/x", "c", "d"]
    assert held(store_path) == {"a/x": 1, "b": 0, "c": 2, "d": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    with h5py.File(store_path) as file:
        assert file["index/videos"]["id"].tolist() == [b"a/x", b"b", b"c", b"d"]
        assert file["labels"]["label"].tolist() == [b"a"]


def test_a_store_that_exists_goes_on_from_what_was_packed(
    make_store: MakeStore, make_part: MakePart, store_path: Path, options: StoreOptions, copied: list[str]
) -> None:
    make_store("a", "b")
    with h5py.File(store_path) as file:
        before = chunks(file, "b")
    copied.clear()
    with packing(store_path, options) as ahead:
        make_part("c", seed=7)
        ahead.add(part(store_path, "c"))
        finalize(store_path, options=options, ahead=ahead.finish())
    assert sorted(copied) == ["a", "b", "c"]
    assert held(store_path) == {"a": 0, "b": 1, "c": 7}
    with h5py.File(store_path) as file:
        assert chunks(file, "b") == before


def test_full_shards_are_committed_meanwhile_and_their_parts_removed(
    make_part: MakePart, store_path: Path, options: StoreOptions, copied: list[str]
) -> None:
    make_part("z", seed=0)
    shard_bytes = 2 * part(store_path, "z").stat().st_size + 100
    with packing(store_path, options, shard_bytes) as ahead:
        ahead.add(part(store_path, "z"))
        for seed, video_id in enumerate("dcba", start=1):
            make_part(video_id, seed=seed)
            ahead.add(part(store_path, video_id))
        made = ahead.finish()
        assert [path.name for path in survey(store_path).pending] == ["00000.h5", "00001.h5"]
        assert [path.stem for path in PartsFolder(store_path).committed_parts()] == ["a"]
        # Were the run killed now, all would be there.
        assert inventory(store_path).records.keys() == set("abcdz")
        finalize(store_path, options=options, shard_bytes=shard_bytes, ahead=made)
    assert copied == list("zdcba")
    assert held(store_path) == {"z": 0, "d": 1, "c": 2, "b": 3, "a": 4}
    assert len(survey(store_path).table) == 3
    assert not PartsFolder(store_path).path.exists()


def test_a_run_that_ends_early_leaves_its_parts_and_no_temporary(
    make_part: MakePart, store_path: Path, options: StoreOptions
) -> None:
    make_part("a")

    def interrupted() -> None:
        with packing(store_path, options) as ahead:
            ahead.add(part(store_path, "a"))
            ahead.finish()
            assert list(store_path.parent.glob("*.tmp"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(store_path.parent.rglob("*.tmp"))
    assert inventory(store_path).records.keys() == {"a"}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("full disk", "NoSpaceError: full"),
        ("other options", "StoreOptionsError: .*jpeg_quality"),
        ("damaged", "StoreFormatError: .*c.h5 is no HDF5 file"),
        ("packed before", "ValueError: .*a.h5 was packed before"),
        ("no thread", "RuntimeError: can't start new thread"),
    ],
)
def test_whatever_fails_is_left_to_the_end_with_a_warning(
    fault: str,
    cause: str,
    make_part: MakePart,
    store_path: Path,
    options: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_part("a", seed=1)
    make_part("b", seed=2)
    added = [part(store_path, name) for name in "ab"]

    def full(*_: object) -> None:
        raise NoSpaceError("full")

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    if fault == "damaged":
        make_part("c")
        added.append(part(store_path, "c"))
        added[-1].write_bytes(b"no HDF5")
    if fault == "packed before":
        added.append(added[0])
    chosen = make_options(jpeg_quality=80) if fault == "other options" else options
    with packing(store_path, chosen) as ahead:
        with monkeypatch.context() as patch:
            if fault == "full disk":
                patch.setattr(container, "_copy_videos", full)
            if fault == "no thread":
                patch.setattr(threading.Thread, "start", no_thread)
            for each in added:
                ahead.add(each)
            with pytest.warns(RuntimeWarning, match=f"^parts are packed at the end.*: {cause}") as seen:
                made = ahead.finish()
            assert len(seen) == 1
        assert made.begun is None
        assert not list(store_path.parent.glob("*.tmp"))
        finalize(store_path, options=options, ahead=made)
    assert held(store_path) == {"a": 1, "b": 2}


def test_a_folder_that_is_read_only_now_is_said_once(
    make_part: MakePart, store_path: Path, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_part("a")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with packing(store_path, options) as ahead, monkeypatch.context() as patch:
        patch.setattr(container, "_copy_videos", read_only)
        patch.setattr(Path, "unlink", read_only)
        ahead.add(part(store_path, "a"))
        # The thread's own error would be a warning as well.
        with pytest.warns(RuntimeWarning, match="packed at the end.*Read-only") as seen:
            ahead.finish()
        assert len(seen) == 1


def test_a_copy_of_a_part_that_is_not_to_be_stored_is_not_used(
    make_part: MakePart, store_path: Path, options: StoreOptions
) -> None:
    make_part("a", seed=1)
    make_part("b", seed=2)
    with packing(store_path, options) as ahead:
        for name in "ab":
            ahead.add(part(store_path, name))
        finalize(store_path, options=options, drop={"a"}, ahead=ahead.finish())
    assert held(store_path) == {"b": 2}
    assert not list(store_path.parent.rglob("*.tmp"))


@pytest.mark.filterwarnings("ignore:parts are packed at the end:RuntimeWarning")
@pytest.mark.parametrize("shard_bytes", [1, LARGE])
def test_work_that_stops_at_any_step_loses_no_video(
    shard_bytes: int,
    make_part: MakePart,
    store_path: Path,
    options: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Stop at each commit: what was committed is there, and the same call again finishes the store."""
    original, steps = atomic.commit, itertools.count(1)
    allowed = 0

    def commit(temporary: Path, path: Path) -> None:
        if next(steps) > allowed:
            raise NoSpaceError("stopped")
        original(temporary, path)

    def work() -> None:
        with packing(store_path, options, shard_bytes) as ahead:
            for path in PartsFolder(store_path).committed_parts():
                ahead.add(path)
            finalize(store_path, options=options, shard_bytes=shard_bytes, ahead=ahead.finish())

    for seed, name in enumerate("abc"):
        make_part(name, seed=seed)
    before = shutil.copytree(store_path.parent, tmp_path_factory.mktemp("before") / "store")
    for allowed in range(20):
        shutil.rmtree(store_path.parent)
        shutil.copytree(before, store_path.parent)
        steps = itertools.count(1)
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "commit", commit)
            try:
                work()
            except NoSpaceError:
                stopped = True
            else:
                stopped = False
        assert inventory(store_path).records.keys() == set("abc")
        work()
        assert held(store_path) == {"a": 0, "b": 1, "c": 2}
        assert not list(store_path.parent.rglob("*.tmp"))
        if not stopped:
            assert allowed >= (4 if shard_bytes == 1 else 1)
            return
    raise AssertionError("the work never came to its end")


def test_shards_below_another_mount_are_committed_meanwhile_too(
    make_part: MakePart, store_path: Path, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts of one file system have one device, but no rename leads from one to the other."""
    original, shards = os.rename, shards_path(store_path)

    def rename(source: Path, target: Path) -> None:
        if (Path(source).parent == shards) != (Path(target).parent == shards):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        original(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with packing(store_path, options, 1) as ahead:
        for seed, name in enumerate("abc"):
            make_part(name, seed=seed)
            ahead.add(part(store_path, name))
        made = ahead.finish()
        assert len(survey(store_path).pending) == 2
        finalize(store_path, options=options, shard_bytes=1, ahead=made)
    assert held(store_path) == {"a": 0, "b": 1, "c": 2}
    assert not list(store_path.parent.rglob("*.tmp"))


def test_replaced_videos_leave_the_store_also_where_full_shards_were_committed(
    make_store: MakeStore, make_part: MakePart, store_path: Path, options: StoreOptions
) -> None:
    """Six videos in three shards, of which three are replaced: as if packed at the end."""
    made = {}
    for meanwhile in (True, False):
        make_part("a")
        shard_bytes = 2 * part(store_path, "a").stat().st_size + 100
        make_store(*"abcdef", shard_bytes=shard_bytes)
        with packing(store_path, options, shard_bytes) as ahead:
            for seed, name in enumerate("ace", start=6):
                make_part(name, seed=seed)
                if meanwhile:
                    ahead.add(part(store_path, name))
            before = ahead.finish()
            assert bool(survey(store_path).pending) == meanwhile
            finalize(store_path, options=options, shard_bytes=shard_bytes, replace=set("ace"), ahead=before)
        assert held(store_path) == {"a": 6, "b": 1, "c": 7, "d": 3, "e": 8, "f": 5}
        sizes = [path.stat().st_size for path in shard_files(store_path)]
        made[meanwhile] = verify(store_path).n_videos, len(sizes), sum(sizes)
        store_path.unlink()
        shutil.rmtree(shards_path(store_path))
    assert made[True] == made[False]
    assert made[True][0] == 6


@pytest.mark.parametrize("during", ["copy", "size of the next", "commit"])
def test_a_second_interrupt_leaves_no_thread_that_commits(
    during: str,
    make_part: MakePart,
    store_path: Path,
    options: StoreOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while the end of the thread is awaited: the folder's lock is released right after that."""
    steps: dict[str, tuple[object, str]] = {
        "copy": (ContainerWriter, "copy_part"),
        "size of the next": (os.path, "getsize"),
        "commit": (ContainerWriter, "commit"),
    }
    original, join = getattr(*steps[during]), threading.Thread.join
    calls, threads = itertools.count(1), []
    reached, released = threading.Event(), threading.Event()

    def blocking(*given: object, **named: object) -> object:
        if next(calls) == (2 if during == "size of the next" else 1):
            reached.set()
            assert released.wait(60)
        return original(*given, **named)

    def interrupted(thread: threading.Thread, *_: object) -> None:
        threads.append(thread)
        if during == "commit":
            released.set()
        raise KeyboardInterrupt

    def run() -> None:
        with packing(store_path, options, 1) as ahead:
            for path in PartsFolder(store_path).committed_parts():
                ahead.add(path)
            assert reached.wait(60)
            raise KeyboardInterrupt

    for video_id in "abc":
        make_part(video_id)
    with monkeypatch.context() as patch:
        patch.setattr(*steps[during], blocking)
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
        left = survey(store_path), PartsFolder(store_path).committed_parts()
        released.set()
    join(threads[0], 60)
    assert (survey(store_path), PartsFolder(store_path).committed_parts()) == left
    # A commit that has begun is awaited; none begins afterwards.
    assert len(left[0].pending) == (1 if during == "commit" else 0)
    assert len(left[1]) == 3 - len(left[0].pending)
    assert not list(store_path.parent.rglob("*.tmp"))
    assert inventory(store_path).records.keys() == set("abc")
