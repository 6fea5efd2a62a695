from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit import atomic
from flowkit.errors import NoSpaceError


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_replacement_appears_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    with atomic.replacement(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert os.listdir(tmp_path) == ["a.h5"]
    assert target.read_text() == "new"


def test_failed_replacement_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    target.write_text("old")

    def fail() -> None:
        with atomic.replacement(target) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path) == ["a.h5"]
    assert target.read_text() == "old"


def test_commit_syncs_file_then_renames_then_syncs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    rename = os.rename

    def noted_rename(source: Path, target: Path) -> None:
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(atomic, "sync", lambda path: order.append(f"sync {path.name}"))
    monkeypatch.setattr(os, "rename", noted_rename)
    (tmp_path / "t").write_text("x")
    atomic.commit(tmp_path / "t", tmp_path / "a")
    assert order == ["sync t", "rename", f"sync {tmp_path.name}"]


def test_a_temporary_tells_its_owner(tmp_path: Path) -> None:
    path = atomic.temporary_path(tmp_path / "a.b.h5")
    found = atomic.parse_temporary(path)
    assert found is not None
    assert (found.host, found.pid) == (atomic.host_name(), os.getpid())
    assert atomic.parse_temporary(tmp_path / "a.h5") is None
    assert atomic.parse_temporary(tmp_path / "a.tmp") is None


def test_only_dead_owners_of_this_host_are_dead(tmp_path: Path) -> None:
    def owner(host: str, pid: int) -> bool:
        return atomic.Temporary(path=tmp_path / "x", host=host, pid=pid).owner_is_dead

    assert owner(atomic.host_name(), dead_pid())
    assert not owner(atomic.host_name(), os.getppid())
    assert not owner("elsewhere", dead_pid())


def test_own_temporary_lives_while_it_is_written(tmp_path: Path) -> None:
    path = atomic.temporary_path(tmp_path / "a")
    temporary = atomic.parse_temporary(path)
    assert temporary is not None
    atomic.claim(path)
    assert not temporary.owner_is_dead
    atomic.release(path)
    assert temporary.owner_is_dead


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Can't decrement id ref count (unable to extend file properly, errno = 27, ...)"),
        OSError("Can't write data (file write failed: ..., errno = 28, error message = 'No space')"),
    ],
)
def test_full_disks_are_told_however_they_come(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(NoSpaceError, match="no space left to write"), atomic.no_space_translated(tmp_path):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), RuntimeError("errno = 280")])
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, atomic.no_space_translated(tmp_path):
        raise error
    assert caught.value is error
