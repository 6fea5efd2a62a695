"""A folder for copies of videos while they are worked on, bounded over all processes of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flowkit import atomic

DEFAULT_BYTES = 8 << 30

_NAME = "flowkit-scratch"
_LOCK = "lock"
_WAIT_SECONDS = 0.05
_SUFFIX = re.compile(r"\.\w{1,8}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """The scratch folder of a run.

    Parameters
    ----------
    folder : Path
        The folder, of this run alone.
    limit_bytes : int
        Most bytes in it at once.
    """

    folder: Path
    limit_bytes: int

    @contextlib.contextmanager
    def room(self, nbytes: int, suffix: str, *, on_beat: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """Yield a file of a size, once there is room for it; it is removed at the end.

        Parameters
        ----------
        nbytes : int
            Its size, at most `limit_bytes`.
        suffix : str
            Of its name: some decoders go by it. What is no plain suffix is left out.
        on_beat : callable
            Called while others have the room.

        Raises
        ------
        NoSpaceError
            The disk is full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)  # an executor may work on another machine
        own = atomic.claim(self.folder / "video")
        path = own / f"video{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        try:
            while not self._reserve(path, nbytes):
                on_beat()
                time.sleep(_WAIT_SECONDS)
            yield path
        finally:
            shutil.rmtree(own, ignore_errors=True)
            atomic.discard(own)

    def _reserve(self, path: Path, nbytes: int) -> bool:
        """Make the file if the others leave room for it; what dead processes left is removed."""
        with (self.folder / _LOCK).open("wb") as lock, atomic.no_space_translated(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
            remove_dead(self.folder, "video")
            if self._taken() + nbytes > self.limit_bytes:
                return False
            path.parent.mkdir()
            with path.open("wb") as file:
                file.truncate(nbytes)
            return True

    def _taken(self) -> int:
        """Return the bytes that all processes have reserved."""
        taken = 0
        for file in self.folder.glob("video*/video*"):
            with contextlib.suppress(FileNotFoundError):  # given back meanwhile
                taken += file.stat().st_size
        return taken


@contextlib.contextmanager
def scratch_folder(parent: Path | None, limit_bytes: int) -> Iterator[Scratch]:
    """Make a scratch folder for a run while a `with` block runs; those of dead runs are removed.

    Parameters
    ----------
    parent : Path or None
        The folder to make it in; None is the system's for temporaries.
    limit_bytes : int
        Most bytes in it at once.

    Raises
    ------
    OSError
        It cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    parent.mkdir(parents=True, exist_ok=True)
    remove_dead(parent, _NAME)
    folder = atomic.claim(parent / _NAME)
    try:
        folder.mkdir(mode=0o700)
        yield Scratch(folder=folder, limit_bytes=limit_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        atomic.discard(folder)


def remove_dead(folder: Path, start: str) -> None:
    """Remove the folders in a folder that dead processes of this host left, by the start of their names."""
    for temporary in atomic.find_temporaries({folder: start}):
        if temporary.owner_is_dead and temporary.path.is_dir():
            shutil.rmtree(temporary.path, ignore_errors=True)
