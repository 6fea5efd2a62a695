from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import atomic
from flowkit.errors import StoreBusyError, StoreCorruptError
from flowkit.store.inventory import inventory, read_part
from flowkit.store.parts_folder import PartsFolder, part_key
from flowkit.store.write.pack import finalize
from tests.store.conftest import MakePart, make_options

IDS = st.lists(st.text("aA.~%/ü é\n0", min_size=1, max_size=200), min_size=2, max_size=4, unique=True)


def valid(video_id: str) -> bool:
    return all(segment not in ("", ".", "..") for segment in video_id.split("/"))


@given(IDS)
def test_keys_are_file_names_and_tell_ids_apart(ids: list[str]) -> None:
    keys = [part_key(video_id) for video_id in ids if valid(video_id)]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key and len(key) <= 150 and key.isascii() for key in keys)


def test_no_id_looks_like_the_segment_of_another(store_path: Path) -> None:
    parts = PartsFolder(store_path)
    assert parts.part_path("a~s00000") != parts.segment_path("a", 0)


def test_a_second_writer_is_refused_with_the_first_ones_process(store_path: Path) -> None:
    first, second = PartsFolder(store_path), PartsFolder(store_path)
    with first.lock(), pytest.raises(StoreBusyError, match=f"process {os.getpid()}"), second.lock():
        pass
    with second.lock():
        assert second.path.is_dir()
    assert not second.path.exists()


def test_lock_stays_with_parts_that_are_there(store_path: Path, make_part: MakePart) -> None:
    make_part("a")
    with PartsFolder(store_path).lock():
        pass
    assert inventory(store_path).records.keys() == {"a"}
    with PartsFolder(store_path).lock():
        pass


def test_file_systems_without_locks_give_a_warning(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.warns(RuntimeWarning, match="without locks"), PartsFolder(store_path).lock():
        pass


def test_only_temporaries_of_dead_processes_are_removed(store_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    parts = PartsFolder(store_path)
    parts.path.mkdir()
    host = atomic.host_name()
    dead = [
        parts.path / f"a.h5.{host}.{child.pid}.tmp",
        store_path.with_name(f"out.h5.{host}.{child.pid}.tmp"),
    ]
    kept = [parts.path / f"b.h5.elsewhere.{child.pid}.tmp", parts.path / f"c.h5.{host}.{os.getppid()}.tmp"]
    other = store_path.with_name(f"other.h5.{host}.{child.pid}.tmp")
    for path in [*dead, *kept, other]:
        path.touch()
    sweep = parts.remove_dead_temporaries()
    assert set(sweep.removed) == set(dead)
    assert set(sweep.kept) == set(kept)
    assert other.exists()
    assert not any(path.exists() for path in dead)


def test_part_of_several_videos_is_none(store_path: Path, make_part: MakePart) -> None:
    make_part("a")
    make_part("b")
    finalize(store_path, options=make_options())
    with pytest.raises(StoreCorruptError, match="2 videos"):
        read_part(store_path)
