"""Write a file whole, hold a folder's lock, sweep the temporaries of dead processes.

A file is written under a temporary name, synced and renamed: the rename is the commit. A process
that dies before it leaves a temporary and nothing else, whose name has its host and process:
``<final name>.<host>.<pid>.tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowkit.errors import NoSpaceError, StoreBusyError

LOCK_NAME = "lock"
_LOCK_TRIES, _LOCK_TRY_S = 5, 0.02
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_TEXT = re.compile(rf"errno = ({'|'.join(map(str, NO_SPACE))})\b")
_TEMPORARY = re.compile(r"(?P<final>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp")

# Errors of file systems without flock: some network and FUSE mounts.
_NO_FLOCK = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)

# Temporaries that this process is writing now: a dead process may have had the same id, as the
# first process of a container always has.
_mine: set[Path] = set()
_mine_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Temporary:
    """A temporary that was found, and the process that made it."""

    path: Path
    host: str
    pid: int

    @property
    def owner_is_dead(self) -> bool:
        """True if its process ran on this host and is gone."""
        if self.host != host_name():
            return False
        if self.pid == os.getpid():
            return self.path.absolute() not in _mine
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OverflowError:
            return False
        except PermissionError:
            return False
        return _has_ended(self.pid)


def _has_ended(pid: int) -> bool:
    """Return whether a process has ended and waits to be reaped: in a container nobody may ever do it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):  # just gone, or a system without /proc
        return False
    return state in (b"Z", b"X")


def host_name() -> str:
    """Return this machine's name as temporaries carry it."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "localhost"


def temporary_path(path: Path) -> Path:
    """Return the temporary name under which this process writes `path`."""
    return path.with_name(f"{path.name}.{host_name()}.{os.getpid()}.tmp")


def parse_temporary(path: Path) -> Temporary | None:
    """Return the host and process in the name of a temporary; None if it is no temporary of ours."""
    parts = _TEMPORARY.fullmatch(path.name)
    return parts and Temporary(path=path, host=parts["host"], pid=int(parts["pid"]))


def claim(path: Path) -> Path:
    """Return the temporary under which to write `path`; it is this writer's alone until `discard`."""
    with _mine_lock:
        temporary, others = temporary_path(path), 0
        while temporary.absolute() in _mine:  # another thread writes the same file
            others += 1
            temporary = temporary_path(path.with_name(f"{path.name}.{others}"))
        _mine.add(temporary.absolute())
    return temporary


def scratch_file(start: str, data: bytes) -> Path:
    """Make a file of this process in the system's folder for temporaries, and remove those of dead ones.

    Parameters
    ----------
    start
        How its name starts; what dead processes of this host left of that start is removed.
    data
        Its contents.
    """
    sweep_temporaries({Path(tempfile.gettempdir()): start})
    with _mine_lock:
        handle, name = tempfile.mkstemp(prefix=start, suffix=f".{host_name()}.{os.getpid()}.tmp")
        _mine.add(Path(name).absolute())
    try:
        with no_space_translated(Path(name)), os.fdopen(handle, "wb") as file:
            file.write(data)
    except BaseException:  # Ctrl-C too: no temporary file stays
        discard(Path(name))
        raise
    return Path(name)


def commit(temporary: Path, path: Path) -> None:
    """Make a closed temporary durable under its final name.

    Raises
    ------
    NoSpaceError
        The disk or a quota is full; the temporary is still there.
    """
    with no_space_translated(path):
        sync(temporary)
        os.rename(temporary, path)
        sync(path.parent)


def discard(temporary: Path) -> None:
    """Remove a claimed temporary, if it is still there."""
    try:
        temporary.unlink(missing_ok=True)
    finally:
        with _mine_lock:
            _mine.discard(temporary.absolute())


def move(source: Path, target: Path) -> None:
    """Rename a file or folder to its final name in one step, without syncing it."""
    os.rename(source, target)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacement(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary to write; at the end it becomes `path`, or is removed if anything fails.

    Parameters
    ----------
    path
        The final name, in a folder that exists; a file of that name is replaced.
    durable
        The contents outlive a power cut once this returns. False spares two syncs, for files that
        are made by thousands or can be made again: a power cut may then leave a torn file.

    Raises
    ------
    NoSpaceError
        The disk or a quota is full.
    """
    temporary = claim(path)
    try:
        with no_space_translated(path):
            yield temporary
            if not durable:
                move(temporary, path)
        if durable:
            commit(temporary, path)
    finally:
        discard(temporary)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all; see `replacement`."""
    with replacement(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 file whole or not at all; see `replacement`."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Temporaries that were found."""

    removed: tuple[Path, ...]
    kept: tuple[Path, ...]
    """Of living processes, of other hosts, whose processes cannot be tested, or of other users."""


def sweep_temporaries(folders: Mapping[Path, str]) -> Sweep:
    """Remove half-written files of dead processes of this host; keep and name the rest.

    Parameters
    ----------
    folders
        Folders to look into, which need not exist, and the start of the names that count in each.
    """
    removed, kept = [], []
    for temporary in find_temporaries(folders):
        if temporary.owner_is_dead and _try_unlink(temporary.path):
            removed.append(temporary.path)
        else:
            kept.append(temporary.path)
    return Sweep(removed=tuple(removed), kept=tuple(kept))


def _try_unlink(path: Path) -> bool:
    """Remove a file; return False for another user's, which stays."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def find_temporaries(folders: Mapping[Path, str]) -> Iterator[Temporary]:
    """Yield the temporaries in folders, as `sweep_temporaries` takes them, in the order of their names."""
    for folder, start in folders.items():
        found = (path for path in folder.iterdir() if path.name.startswith(start)) if folder.is_dir() else ()
        for path in sorted(found):
            if (temporary := parse_temporary(path)) is not None:
                yield temporary


@contextlib.contextmanager
def folder_lock(folder: Path, target: Path) -> Iterator[None]:
    """Hold `folder` while the `with` block runs; it is made first, and removed if nothing is put into it.

    Parameters
    ----------
    folder
        Folder of the lock file, which names the process that holds it.
    target
        The path that the folder stands for, as messages name it.

    Raises
    ------
    StoreBusyError
        Another process, or another part of this one, holds it.

    Warns
    -----
    RuntimeWarning
        The file system has no locks: two runs at once would not notice each other.
    """
    with no_space_translated(folder):
        descriptor = _locked_descriptor(folder, target)
    try:
        yield
    finally:
        try:
            _remove_if_empty(folder)
        finally:
            os.close(descriptor)


def lock_holder(folder: Path) -> str:
    """Return the process that holds a folder, as its lock file names it; "" where none does."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY)
    except OSError:
        return ""
    try:
        owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return owner
    except OSError:  # a file system without locks: a process of this host can be asked for
        named = re.fullmatch(r"process (\d+) on (\S+)", owner)
        alive = named and not Temporary(path=folder, host=named[2], pid=int(named[1])).owner_is_dead
        return owner if alive else ""
    finally:
        os.close(descriptor)
    return ""


def _locked_descriptor(folder: Path, target: Path) -> int:
    """Open the lock file and lock it, also if another process removes it meanwhile."""
    name = folder / LOCK_NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the folder was removed by a run that has just ended
        try:
            _flock(descriptor, folder, target)
            if name.exists() and os.path.samestat(os.fstat(descriptor), name.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {host_name()}".encode())
                return descriptor
        except BaseException:  # Ctrl-C too: no lock stays
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flock(descriptor: int, folder: Path, target: Path) -> None:
    try:
        for _ in range(_LOCK_TRIES - 1):  # `lock_holder` holds it for a moment
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(_LOCK_TRY_S)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
        raise StoreBusyError(
            f"{target} is being written by {owner}; wait for it or end it, then run this again"
        ) from None
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        warnings.warn(
            f"{folder} is on a file system without locks ({error.strerror}): make sure that no "
            f"other process writes {target}",
            RuntimeWarning,
            stacklevel=5,  # the `with` of the caller
        )


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        if os.listdir(folder) == [LOCK_NAME]:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


@contextlib.contextmanager
def no_space_translated(path: Path) -> Iterator[None]:
    """Raise NoSpaceError for the errors of a full disk, of this code or of HDF5."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, NoSpaceError) or not is_no_space(error):
            raise
        raise NoSpaceError(
            f"no space left to write {path}: {_first_line(error)}; "
            "free some space, or raise the quota or file size limit, and run the same command again"
        ) from error


def is_no_space(error: BaseException) -> bool:
    """Return whether an error means a full disk, quota or file size limit.

    HDF5 often hides the number: h5py then raises a plain RuntimeError with it in the text.
    """
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    return _NO_SPACE_TEXT.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error).splitlines()[0]
