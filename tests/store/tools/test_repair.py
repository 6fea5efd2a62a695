"""Repair: unsound videos go, everything else stays as it was stored."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreBusyError, StoreError, StoreNotFoundError, StoreUnreadableError
from flowkit.store.inventory import inventory, survey
from flowkit.store.parts_folder import PartsFolder, parts_path, shards_path
from flowkit.store.read.store import open_store
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from flowkit.store.write.container import Lists
from flowkit.store.write.pack import finalize, write_container
from flowkit.store.write.put_away import broken_path
from tests.make.stores import change_metadata, make_format_1_0
from tests.store.conftest import N_FRAMES, MakePart, MakeStore, make_flow


def test_one_flipped_bit_costs_one_video_only(make_store: MakeStore) -> None:
    path = make_store("a", "b", "c")
    raw = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        raw[int(file["index/flow_addr"][N_FRAMES]) + 30] ^= 1  # the second field of b
    path.write_bytes(raw)
    assert verify(path).videos.keys() == {"b"}
    report = repair(path)
    assert (report.dropped, report.kept) == (("b",), 2)
    assert verify(path).sound
    with open_store(path) as store:
        assert list(store) == ["a", "c"]


def test_sound_store_is_not_rewritten(make_store: MakeStore) -> None:
    path = make_store("a")
    before = path.stat().st_ino
    report = repair(path)
    assert not report.rewritten
    assert path.stat().st_ino == before
    assert not path.with_name("out.h5.parts").exists()


def test_broken_video_of_a_shard_is_dropped_and_the_others_kept(make_store: MakeStore) -> None:
    path = make_store("a", "b", "c", shard_bytes=1)
    with h5py.File(shards_path(path) / "00001.h5", "r+") as file:
        file["videos/b/frames"][10] ^= 255
    report = verify(path)
    assert report.videos.keys() == {"b"}
    assert repair(path).dropped == ("b",)
    assert verify(path).sound
    assert sorted(p.name for p in shards_path(path).iterdir()) == ["00000.h5", "00002.h5"]


@pytest.mark.parametrize("how", ["cut", "no HDF5"])
def test_videos_of_a_broken_shard_are_named_and_dropped_and_its_file_is_kept_aside(
    make_store: MakeStore, how: str
) -> None:
    path = make_store("a", "b", shard_bytes=1)
    shard = shards_path(path) / "00000.h5"
    raw = shard.read_bytes()
    broken = raw[: len(raw) // 2] if how == "cut" else b"x" * len(raw)
    shard.write_bytes(broken)
    report = verify(path)
    assert report.videos.keys() == {"a"}
    assert any("00000.h5" in problem for problem in report.store)
    assert repair(path).dropped == ("a",)
    assert verify(path).sound
    assert [file.read_bytes() for file in broken_path(path).iterdir()] == [broken]


@pytest.mark.parametrize("away", ["a shard", "the folder"])
def test_shards_that_are_away_are_not_judged_and_nothing_goes_on_without_them(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions, away: str, tmp_path: Path
) -> None:
    path = make_store("a", "b", shard_bytes=1)
    before, master = stored(path), path.read_bytes()
    there = shards_path(path) if away == "the folder" else shards_path(path) / "00000.h5"
    there.rename(tmp_path / "elsewhere")
    report = verify(path)
    assert not report.sound
    assert (report.videos, report.store) == ({}, ())
    assert len(report.unreadable) == (2 if away == "the folder" else 1)
    with pytest.raises(StoreUnreadableError, match=r"not repaired.*00000\.h5.*--lost"):
        repair(path)
    make_part("c")
    with pytest.raises(StoreUnreadableError, match=r"not there: .*00000\.h5.*mount"):
        finalize(path, options=options, shard_bytes=1)
    assert path.read_bytes() == master
    (tmp_path / "elsewhere").rename(there)
    assert verify(path).sound
    finalize(path, options=options, shard_bytes=1)
    assert stored(path).items() >= before.items()


def test_videos_of_shards_that_are_lost_are_dropped_where_that_is_said(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    (shards_path(path) / "00000.h5").unlink()
    assert repair(path, lost=True).dropped == ("a",)
    assert verify(path).sound
    assert not broken_path(path).exists()


def test_a_shard_that_another_process_writes_is_not_judged(make_store: MakeStore) -> None:
    path = make_store("a", "b", shard_bytes=1)
    shard = shards_path(path) / "00000.h5"
    before = {file: file.read_bytes() for file in (path, *shards_path(path).iterdir())}
    with another_process(f"file = h5py.File({str(shard)!r}, 'r+')"):
        for lost in (False, True):
            with pytest.raises(StoreUnreadableError, match="another process has it open for writing"):
                repair(path, lost=lost)
    assert {file: file.read_bytes() for file in (path, *shards_path(path).iterdir())} == before
    assert verify(path).sound


@contextlib.contextmanager
def another_process(code: str) -> Iterator[None]:
    """Run code in another process until the `with` block ends."""
    words = [sys.executable, "-c", f"import h5py, sys; {code}; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield
        process.communicate()


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
@pytest.mark.parametrize(
    "refused", [OSError(errno.EIO, "Input/output error"), MemoryError(), OSError("x, errno = 5, y")]
)
def test_a_chunk_that_the_disk_does_not_give_now_costs_no_video(
    make_store: MakeStore, shard_bytes: int, refused: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    before = {file: file.read_bytes() for file in path.parent.rglob("*.h5")}

    def refuse(self: object, index: int) -> None:
        raise refused

    with monkeypatch.context() as patch:
        patch.setattr("flowkit.store.read.hdf5_video.Hdf5Video.frame", refuse)
        with pytest.raises(StoreUnreadableError):
            repair(path)
    assert {file: file.read_bytes() for file in path.parent.rglob("*.h5")} == before
    assert not repair(path).rewritten


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_the_file_of_a_broken_video_is_kept_aside_until_it_is_deleted(
    make_store: MakeStore, shard_bytes: int
) -> None:
    path = make_store("a", "b", "c", shard_bytes=shard_bytes)
    for turn, video_id in enumerate(("a", "b")):
        broken = shards_path(path) / f"0000{turn}.h5" if shard_bytes == 1 else path
        break_flow(broken, video_id)
        raw = broken.read_bytes()
        assert repair(path).dropped == (video_id,)
        aside = sorted(broken_path(path).iterdir())
        assert len(aside) == turn + 1
        assert raw in [file.read_bytes() for file in aside]
    assert not repair(path, delete=True).rewritten
    assert not broken_path(path).exists()
    assert verify(path).sound


@pytest.mark.parametrize("linked", [True, False])
def test_a_repair_that_was_killed_keeps_one_copy_aside(
    make_store: MakeStore, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store("a", "b")
    break_flow(path, "a")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    with monkeypatch.context() as patch:
        patch.setattr("flowkit.store.tools.repair.write_container", killed)
        if not linked:
            patch.setattr(os, "link", no_links)
        with pytest.raises(KeyboardInterrupt):
            repair(path)
    assert repair(path).dropped == ("a",)
    assert len(list(broken_path(path).iterdir())) == 1


def test_a_replaced_shard_goes_if_the_store_has_its_videos_and_else_aside(
    make_store: MakeStore, options: StoreOptions
) -> None:
    path = make_store("a", "b", "z", shard_bytes=1)
    shards = shards_path(path)
    with_z = (shards / "00002.h5").read_bytes()
    finalize(path, options=options, shard_bytes=1, drop={"z"})
    # Numbers below the next one that the master does not name are of replaced shards.
    with h5py.File(path, "r+") as file:
        change_metadata(file, next_shard=10)
    (shards / "00007.h5").write_bytes((shards / "00000.h5").read_bytes())
    (shards / "00008.h5").write_bytes(with_z)
    repair(path)
    assert sorted(file.name for file in shards.iterdir()) == ["00000.h5", "00001.h5"]
    assert [file.name for file in broken_path(path).iterdir()] == ["00008.h5"]


def link_outside(file: h5py.File) -> None:
    file["videos/x"] = h5py.ExternalLink("/etc/passwd", "/")


def link_to_nowhere(file: h5py.File) -> None:
    file["videos/x"] = h5py.SoftLink("/nowhere")


def cycle(file: h5py.File) -> None:
    file["videos/x"] = file["videos"]


def second_name(file: h5py.File) -> None:
    file["videos/x"] = file["videos/a"]


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
@pytest.mark.parametrize("stray", [link_outside, link_to_nowhere, cycle, second_name])
def test_what_is_no_video_costs_no_other(
    make_store: MakeStore, stray: Callable[[h5py.File], None], shard_bytes: int
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    before = stored(path)
    with h5py.File(shards_path(path) / "00000.h5" if shard_bytes == 1 else path, "r+") as file:
        stray(file)
    report = verify(path)
    assert "x" in report.videos
    assert not report.sound
    repaired = repair(path)
    assert (repaired.dropped, repaired.kept) == (("x",), 2)
    assert verify(path).sound
    assert stored(path) == before


def test_cut_single_file_cannot_be_repaired_and_says_so(make_store: MakeStore) -> None:
    path = make_store("a")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(StoreError, match="damaged"):
        verify(path)
    with pytest.raises(StoreError, match="damaged"):
        repair(path)
    assert path.read_bytes() == raw[: len(raw) // 2]


def break_flow(path: Path, video_id: str) -> None:
    """Give the first chunk of a video another CRC than it has."""
    with h5py.File(path, "r+") as file:
        file[f"videos/{video_id}/flow_crc32"][0] ^= 1


def stored(path: Path) -> dict[str, list[bytes]]:
    """Return the stored bytes of flow and frames of each video."""
    with open_store(path) as store:
        videos = {video_id: store.stored_video(video_id) for video_id in store}
        return {
            video_id: [
                *(chunk for k in range(N_FRAMES - 1) for chunk in video.field("flow").chunks(k)),
                *(video.frames[k] for k in range(N_FRAMES)),
            ]
            for video_id, video in videos.items()
        }


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_what_is_kept_has_the_bytes_the_records_and_the_lists_as_before(
    make_store: MakeStore, options: StoreOptions, shard_bytes: int
) -> None:
    path = make_store("x/a", "x/b", "y/c", shard_bytes=shard_bytes)
    failures = [Failure(source="z.avi", reason="too_short")]
    finalize(path, options=options, failures=failures, labels=["y", "x", "w"], shard_bytes=shard_bytes)
    before, records = stored(path), inventory(path).records
    break_flow(shards_path(path) / "00001.h5" if shard_bytes == 1 else path, "x/b")
    report = repair(path)
    assert (report.dropped, report.kept, report.rewritten) == (("x/b",), 2, True)
    kept = {"x/a", "y/c"}
    assert stored(path) == {video_id: before[video_id] for video_id in kept}
    after = inventory(path)
    assert after.records == {video_id: records[video_id] for video_id in kept}
    assert (after.labels, after.failures, after.options) == (("y", "x", "w"), tuple(failures), options)


@pytest.mark.parametrize("shard_bytes", [1, 1 << 30])
def test_a_dropped_video_can_be_added_again(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions, shard_bytes: int
) -> None:
    path = make_store("a", "b", shard_bytes=shard_bytes)
    before = stored(path)
    break_flow(shards_path(path) / "00001.h5" if shard_bytes == 1 else path, "b")
    repair(path)
    make_part("b", seed=1)
    finalize(path, options=options, shard_bytes=shard_bytes)
    assert verify(path).sound
    assert stored(path) == before


def test_a_store_without_any_sound_video_becomes_an_empty_one(make_store: MakeStore) -> None:
    path = make_store("a")
    break_flow(path, "a")
    report = repair(path)
    assert (report.dropped, report.kept, report.rewritten) == (("a",), 0, True)
    with open_store(path) as store:
        assert list(store) == []
    assert verify(path).sound


def test_a_rewritten_shard_gets_a_new_number_and_whole_ones_stay(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("a", "b", shard_bytes=1)
    make_part("c", seed=2)
    make_part("d", seed=3)
    finalize(path, options=options)  # c and d in one shard
    inodes = {shard.name: shard.stat().st_ino for shard in shards_path(path).iterdir()}
    assert sorted(inodes) == ["00000.h5", "00001.h5", "00002.h5"]
    break_flow(shards_path(path) / "00002.h5", "c")
    assert repair(path).dropped == ("c",)
    after = {shard.name: shard.stat().st_ino for shard in shards_path(path).iterdir()}
    assert sorted(after) == ["00000.h5", "00001.h5", "00003.h5"]
    assert all(after[name] == inodes[name] for name in ("00000.h5", "00001.h5"))
    assert survey(path).next_shard == 4


def add_shard(path: Path, number: int, record: VideoRecord, options: StoreOptions) -> None:
    """Commit the part of a video as a shard that no master names: the state after a kill."""
    part = PartsFolder(path).part_path(record.video_id)
    lists = Lists(options=options, labels=(), failures=())
    ids = [record.video_id]
    records = {record.video_id: record}
    write_container(survey(path).shard_path(number), {part: ids}, records, lists, number=number)
    part.unlink()


def test_of_a_video_in_two_shards_that_of_the_master_stays(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("a", "b", shard_bytes=1)
    before = stored(path)
    add_shard(path, 5, make_part("b", seed=9), options)
    break_flow(shards_path(path) / "00000.h5", "a")
    report = repair(path)
    assert (report.dropped, report.kept) == (("a",), 1)
    assert stored(path) == {"b": before["b"]}
    assert not (shards_path(path) / "00005.h5").exists()


def test_of_two_shards_that_no_master_names_the_newer_counts(
    make_store: MakeStore, make_part: MakePart, options: StoreOptions
) -> None:
    path = make_store("a", "b", shard_bytes=1)
    before = stored(path)
    add_shard(path, 5, make_part("c", seed=8), options)
    add_shard(path, 6, make_part("c", seed=9), options)
    break_flow(shards_path(path) / "00000.h5", "a")
    report = repair(path)
    assert (report.dropped, report.kept) == (("a",), 2)
    with open_store(path) as store:
        assert list(store) == ["b", "c"]
        assert np.abs(store["c"].flow() - make_flow(9, N_FRAMES - 1)).max() <= 1 / 8  # half a code
    assert stored(path)["b"] == before["b"]


def test_a_store_that_is_being_written_is_busy(make_store: MakeStore) -> None:
    path = make_store("a")
    break_flow(path, "a")
    before = path.read_bytes()
    with PartsFolder(path).lock(), pytest.raises(StoreBusyError, match=r"out\.h5"):
        repair(path)
    assert path.read_bytes() == before


def test_no_store_is_not_found(store_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no store at"):
        repair(store_path)
    assert not parts_path(store_path).exists()


@pytest.mark.parametrize(("is_old", "expected"), [(False, ("x", "y")), (True, ("y",))])
def test_class_names_that_are_lost_are_those_of_the_metadata_or_of_the_videos_that_stay(
    make_store: MakeStore, is_old: bool, expected: tuple[str, ...]
) -> None:
    path = make_store("x/a", "y/b", "y/c")
    with h5py.File(path, "r+") as file:
        if is_old:
            make_format_1_0(file)
        del file["labels"]
    break_flow(path, "x/a")
    assert repair(path).dropped == ("x/a",)
    assert inventory(path).labels == expected
    assert verify(path).sound
