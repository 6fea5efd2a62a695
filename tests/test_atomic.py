from __future__ import annotations

import ast
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flowkit import atomic
from flowkit.datasets import Split, write_split
from flowkit.errors import NoSpaceError, StoreBusyError
from flowkit.flow_files.flo import write_flo
from flowkit.rawframes.destination import Destination
from flowkit.store.record import Failure
from flowkit.store.write.pack import write_ledger
from flowkit.tvl1.cuda import modules as cuda_kernels

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("flowkit", "gating", "cli")


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


def test_text_and_bytes_are_written_whole(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "text", "Größe\n")
    atomic.write_bytes(tmp_path / "bytes", b"\0\r\n")
    assert (tmp_path / "text").read_bytes() == "Größe\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\0\r\n"
    assert sorted(os.listdir(tmp_path)) == ["bytes", "text"]


def test_only_durable_files_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(atomic, "sync", lambda path: synced.append(path.name.partition(".")[0]))
    atomic.write_bytes(tmp_path / "fast", b"x", durable=False)
    assert synced == []
    atomic.write_bytes(tmp_path / "safe", b"x")
    assert synced == ["safe", tmp_path.name]
    assert sorted(os.listdir(tmp_path)) == ["fast", "safe"]


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


def test_a_temporary_names_its_owner(tmp_path: Path) -> None:
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


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_an_owner_that_ended_and_was_not_reaped_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert atomic.Temporary(path=tmp_path / "x", host=atomic.host_name(), pid=child.pid).owner_is_dead


def test_own_temporary_lives_while_it_is_written(tmp_path: Path) -> None:
    path = atomic.claim(tmp_path / "a")
    temporary = atomic.parse_temporary(path)
    assert temporary is not None
    assert not temporary.owner_is_dead
    atomic.discard(path)
    assert temporary.owner_is_dead


def test_two_threads_that_write_one_file_have_a_temporary_each(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic.replacement(path) as first, atomic.replacement(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert all(atomic.parse_temporary(temporary) for temporary in (first, second))
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_held_folder_names_its_holder_and_what_it_stands_for(tmp_path: Path) -> None:
    folder, target = tmp_path / "out.parts", tmp_path / "out.h5"
    message = rf"out\.h5 is being written by process {os.getpid()} on {atomic.host_name()}; wait"
    with (
        atomic.folder_lock(folder, target),
        pytest.raises(StoreBusyError, match=message),
        atomic.folder_lock(folder, target),
    ):
        pass
    assert not folder.exists()


def test_a_lock_whose_folder_is_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, flock, calls = tmp_path / "out.parts", fcntl.flock, 0

    def remove_once(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            shutil.rmtree(folder)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_once)
    with atomic.folder_lock(folder, tmp_path / "out.h5"):
        assert (folder / atomic.LOCK_NAME).read_text().startswith(f"process {os.getpid()}")
    assert calls == 2


def test_only_missing_locks_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        def flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        with atomic.folder_lock(tmp_path / "out.parts", tmp_path / "out.h5"):
            pass

    with pytest.warns(RuntimeWarning, match=r"without locks .*writes .*out\.h5") as caught:
        fail(errno.ENOLCK)
    assert caught[0].filename == __file__
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        fail(errno.EIO)


def test_a_folder_that_got_contents_stays_with_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "out.parts"
    with atomic.folder_lock(folder, tmp_path / "out.h5"):
        (folder / "a.h5").touch()
    assert sorted(os.listdir(folder)) == ["a.h5", "lock"]


def test_a_sweep_takes_only_dead_temporaries_of_its_folders_and_names(tmp_path: Path) -> None:
    host = atomic.host_name()
    dead = tmp_path / f"a.h5.{host}.{dead_pid()}.tmp"
    living = tmp_path / f"a.h5.{host}.{os.getppid()}.tmp"
    others = [tmp_path / f"b.h5.{host}.{dead_pid()}.tmp", tmp_path / "a.h5", tmp_path / "a.tmp"]
    for path in (dead, living, *others):
        path.touch()
    sweep = atomic.sweep_temporaries({tmp_path: "a", tmp_path / "absent": ""})
    assert sweep == atomic.Sweep(removed=(dead,), kept=(living,))
    assert sorted(tmp_path.iterdir()) == sorted([living, *others])


def test_a_scratch_file_sweeps_those_of_dead_processes_and_no_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"run-x.{atomic.host_name()}.{dead_pid()}.tmp"
    dead.touch()
    first = atomic.scratch_file("run-", b"one")
    second = atomic.scratch_file("run-", b"two")
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    atomic.discard(first)
    assert list(tmp_path.iterdir()) == [second]


def test_another_users_temporary_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = tmp_path / f"a.h5.{atomic.host_name()}.{dead_pid()}.tmp"
    dead.touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert atomic.sweep_temporaries({tmp_path: "a"}) == atomic.Sweep(removed=(), kept=(dead,))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Can't decrement id ref count (unable to extend file properly, errno = 27, ...)"),
        OSError("Can't write data (file write failed: ..., errno = 28, error message = 'No space')"),
    ],
)
def test_full_disks_are_recognised_in_every_error(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(NoSpaceError, match="no space left to write"), atomic.no_space_translated(tmp_path):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), RuntimeError("errno = 280")])
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, atomic.no_space_translated(tmp_path):
        raise error
    assert caught.value is error


def write_a_flow_file(folder: Path) -> None:
    write_flo(folder / "a.flo", np.zeros((2, 1, 1), np.float32))


def write_a_split(folder: Path) -> None:
    write_split(folder / "out.h5", Split(name="s", kind="fold", parts={"a": "0", "b": "1"}))


def write_a_list_of_an_export(folder: Path) -> None:
    Destination(folder).write_own("annotations/list.txt", "a 1\n")


def write_the_options_of_an_export(folder: Path) -> None:
    Destination(folder).write_options({"layout": "tsn"})


def keep_a_compiled_kernel(folder: Path) -> None:
    cuda_kernels._write(folder / "tile.bin", b"code")


def write_a_ledger(folder: Path) -> None:
    write_ledger(folder / "out.h5", [Failure(source="a.avi", reason="decode_error")])


WRITERS = [
    write_a_flow_file,
    write_a_split,
    write_a_list_of_an_export,
    write_the_options_of_an_export,
    keep_a_compiled_kernel,
    write_a_ledger,
]


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("write", WRITERS)
def test_a_failed_write_leaves_no_temporary(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    (written,) = files_below(tmp_path)
    written.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    if write is keep_a_compiled_kernel:
        with pytest.warns(RuntimeWarning, match="cannot be kept.*no space left"):
            write(tmp_path)
    else:
        with pytest.raises(NoSpaceError, match=f"no space left to write {written}"):
            write(tmp_path)
    assert files_below(tmp_path) == [written]
    assert written.read_text() == "old"


def renames_and_temporary_names(path: Path) -> Iterator[str]:
    """Yield where a module renames a file by itself, or builds the name of a temporary."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="rename" | "replace" as name)):
                yield f"{path}:{node.lineno} os.{name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="shutil"), attr="move")):
                yield f"{path}:{node.lineno} shutil.move"
            case ast.Call(func=ast.Attribute(attr="rename")):
                yield f"{path}:{node.lineno} .rename()"
            # A string's has two arguments, and dataclasses.replace has keywords.
            case ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[]):
                yield f"{path}:{node.lineno} .replace(path)"
            case ast.Constant(value=str(text)) if text.endswith(".tmp"):
                yield f"{path}:{node.lineno} {text!r}"


def test_no_other_module_renames_files_or_names_temporaries() -> None:
    modules = [path for package in PRODUCT for path in sorted((ROOT / package).rglob("*.py"))]
    assert ROOT / "flowkit/atomic.py" in modules
    own = {"flowkit/atomic.py"}
    strays = [
        stray
        for path in modules
        if path.relative_to(ROOT).as_posix() not in own
        for stray in renames_and_temporary_names(path)
    ]
    assert not strays


def test_every_way_to_rename_or_name_a_temporary_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "os.rename(a, b)\nos.replace(a, b)\na.rename(b)\na.replace(b)\n"
        "x = f'{a}.tmp'\ny = 'a.tmp'\nshutil.move(a, b)\n"
        "a.replace('x', 'y')\ndataclasses.replace(a, b=1)\n'a.tmpl'\n"
    )
    lines = [int(stray.split(":")[1].split()[0]) for stray in renames_and_temporary_names(module)]
    assert sorted(lines) == [1, 2, 3, 4, 5, 6, 7]
