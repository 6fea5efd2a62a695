"""How a file of a store comes to be: written under a temporary name, synced, renamed.

The rename is the commit. What dies before it leaves a temporary and nothing else; its name
tells whose it was: ``<final name>.<host>.<pid>.tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowkit.errors import NoSpaceError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_TEXT = re.compile(rf"errno = ({'|'.join(map(str, NO_SPACE))})\b")
_TEMPORARY = re.compile(r"(?P<final>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp")

# Temporaries that this process is writing now: its own id alone would not tell them from those
# of a dead process that had the same one, as the first process of a container always has.
_mine: set[Path] = set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Temporary:
    """A temporary that lies about, and who made it."""

    path: Path
    host: str
    pid: int

    @property
    def owner_is_dead(self) -> bool:
        """Whether its process ran on this host and is gone."""
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
        return False


def host_name() -> str:
    """Return this machine's name as temporaries carry it."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "localhost"


def temporary_path(path: Path) -> Path:
    """Return the temporary name under which this process writes `path`."""
    return path.with_name(f"{path.name}.{host_name()}.{os.getpid()}.tmp")


def parse_temporary(path: Path) -> Temporary | None:
    """Return what the name of a temporary tells; None if it is no temporary of ours."""
    parts = _TEMPORARY.fullmatch(path.name)
    return parts and Temporary(path=path, host=parts["host"], pid=int(parts["pid"]))


def claim(temporary: Path) -> None:
    """Note that this process writes `temporary` now."""
    _mine.add(temporary.absolute())


def release(temporary: Path) -> None:
    """Note that this process writes `temporary` no longer."""
    _mine.discard(temporary.absolute())


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
    """Remove a temporary, if it is there."""
    release(temporary)
    temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yield a temporary to write; commit it to `path` at the end, or remove it if that fails."""
    temporary = temporary_path(path)
    claim(temporary)
    try:
        with no_space_translated(path):
            yield temporary
        commit(temporary, path)
    finally:
        discard(temporary)


@contextlib.contextmanager
def no_space_translated(path: Path) -> Iterator[None]:
    """Turn what a full disk raises, here or inside HDF5, into NoSpaceError."""
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
    """Tell whether an error means a full disk, quota or file size limit.

    HDF5 often hides the number: h5py then raises a plain RuntimeError with it in the text.
    """
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    return _NO_SPACE_TEXT.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error).splitlines()[0]
