"""A store that is made of others: what killed runs left is ours to remove, anything else is not."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from flowkit import atomic
from flowkit.errors import InputError, NoSpaceError, StoreBusyError
from flowkit.store.parts_folder import PartsFolder, parts_path, shards_path
from flowkit.store.tools.combine import merge, subset
from flowkit.store.tools.new_store import new_store, recipe
from flowkit.store.tools.recode import recode
from flowkit.store.tools.repair import repair
from flowkit.store.tools.verify import verify
from tests.make.stores import noise, write_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_store(tmp_path / "in.h5", {"a/1": noise(2, 0), "b/1": noise(2, 1), "c/1": noise(2, 2)})


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def dead_temporary(path: Path) -> Path:
    """Leave what a killed writer of `path` leaves: a temporary of a process that does not exist."""
    temporary = path.with_name(f"{path.name}.{atomic.host_name()}.{2**22 - 7}.tmp")
    temporary.parent.mkdir(exist_ok=True)
    temporary.write_bytes(b"half a store")
    return temporary


def test_the_same_call_finds_its_store_made_and_another_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    subset(source, out, ["a/1", "b/1"])
    before = out.read_bytes()
    subset(source, out, ["b/1", "a/1"])
    assert out.read_bytes() == before
    with pytest.raises(InputError, match="there already"):
        subset(source, out, ["a/1"])
    with pytest.raises(InputError, match="there already"):
        merge([source], out)
    assert out.read_bytes() == before
    assert names(tmp_path) == ["in.h5", "out.h5"]


def test_what_a_killed_run_left_is_swept_and_the_store_made(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    dead_temporary(out)
    dead_temporary(shards_path(out) / "00000.h5")
    (shards_path(out) / "00000.h5").write_bytes(b"a shard that no master names")
    parts = PartsFolder(out)
    parts.path.mkdir()
    (parts.path / atomic.LOCK_NAME).touch()
    parts.write_recipe(recipe("merge", [source], shard_bytes=7))
    merge([source], out)
    assert verify(out).sound
    assert names(tmp_path) == ["in.h5", "out.h5"]


@pytest.mark.parametrize("left", ["lock", None])
def test_an_empty_folder_of_parts_is_no_store(source: Path, tmp_path: Path, left: str | None) -> None:
    out = tmp_path / "out.h5"
    parts_path(out).mkdir()
    if left:
        (parts_path(out) / left).touch()
    recode(source, out, drop_frames=True)
    assert names(tmp_path) == ["in.h5", "out.h5"]


@pytest.mark.parametrize("error", [NoSpaceError("full"), KeyboardInterrupt()])
def test_recode_goes_on_where_it_was_ended(
    source: Path, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out.h5", list[str]()

    def end(video_id: str) -> None:
        seen.append(video_id)
        if video_id == "b/1":
            raise error

    with pytest.raises(type(error)):
        recode(source, out, flow_codec="i16", on_video=end)
    assert PartsFolder(out).recipe() is not None
    seen.clear()
    recode(source, out, flow_codec="i16", on_video=seen.append)
    assert seen == ["c/1"]
    assert (verify(out).sound, verify(out).n_videos) == (True, 3)
    assert names(tmp_path) == ["in.h5", "out.h5"]


def test_recode_with_other_choices_or_a_changed_source_starts_anew(source: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out.h5", list[str]()

    def end(video_id: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recode(source, out, flow_codec="i16", on_video=end)
    with pytest.raises(KeyboardInterrupt):
        recode(source, out, flow_codec="jpeg", on_video=end)
    os.utime(source, ns=(1, 1))
    recode(source, out, flow_codec="jpeg", on_video=seen.append)
    assert seen == ["a/1", "b/1", "c/1"]
    assert verify(out).sound


def test_a_call_that_fails_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise NoSpaceError("full")

    with monkeypatch.context() as patched:
        patched.setattr("flowkit.store.write.pack.write_master", full)
        with pytest.raises(NoSpaceError):
            merge([source], tmp_path / "out.h5", shard_bytes=1)
    assert names(tmp_path) == ["in.h5"]


def test_parts_of_an_extraction_are_left_alone(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    parts_path(out).mkdir()
    (parts_path(out) / "a.h5").write_bytes(b"hours of work")
    with pytest.raises(InputError, match=r"out\.h5\.parts is there already"):
        recode(source, out, drop_frames=True)
    assert (parts_path(out) / "a.h5").read_bytes() == b"hours of work"


def test_a_store_that_is_being_made_is_busy(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with new_store(out, "work", is_made=lambda: False) as is_to_do:
        assert is_to_do
        with pytest.raises(StoreBusyError):
            merge([source], out)


def test_a_failure_after_the_commit_keeps_the_shards(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    with contextlib.suppress(KeyboardInterrupt):
        with new_store(out, "work", is_made=lambda: False):
            merged = tmp_path / "other.h5"
            merge([source], merged, shard_bytes=1)
            os.rename(shards_path(merged), shards_path(out))
            os.rename(merged, out)
            raise KeyboardInterrupt
    assert len(list(shards_path(out).iterdir())) == 3


def test_repair_sweeps_what_a_killed_repair_left_of_a_sound_store(source: Path, tmp_path: Path) -> None:
    dead_temporary(source)
    dead_temporary(parts_path(source) / "x.h5")
    report = repair(source)
    assert (report.rewritten, report.dropped, report.kept) == (False, (), 3)
    assert names(tmp_path) == ["in.h5"]
