"""The folder of parts beside a store in the making: what is committed, and by whom it is written.

Each finished video is one file there, `<key>.h5`; a long one is first committed in segments,
`<key>~s00000.h5`, which are joined when all are there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from flowkit import atomic
from flowkit.errors import StoreBusyError
from flowkit.store.record import check_video_id

MAX_KEY_BYTES = 150
LOCK_NAME = "lock"
_SEGMENT = re.compile(r"(?P<key>.+)~s(?P<index>\d{5})\.h5")
# What file systems answer that know no flock: some network and FUSE mounts.
_NO_FLOCK = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What became of the temporaries that lay about."""

    removed: tuple[Path, ...]
    kept: tuple[Path, ...]
    """Of living processes, or of other hosts, whose processes cannot be asked for."""


def part_key(video_id: str) -> str:
    """Return the file name, without its suffix, that stands for a video: one for each id."""
    # `~` is left to the endings, so that no id can look like another's segment.
    key = quote(check_video_id(video_id), safe="").replace("~", "%7E")
    if len(key) <= MAX_KEY_BYTES:
        return key
    return f"{key[: MAX_KEY_BYTES - 34]}~h{hashlib.sha256(video_id.encode()).hexdigest()[:32]}"


def parts_path(store_path: Path) -> Path:
    """Return the folder of parts of a store."""
    return store_path.with_name(f"{store_path.name}.parts")


def shards_path(store_path: Path) -> Path:
    """Return the folder of shards of a store."""
    return store_path.with_name(f"{store_path.name}.shards")


class PartsFolder:
    """The folder of parts of the store at `store_path`; it is made when first needed."""

    def __init__(self, store_path: Path | str) -> None:
        self.store_path = Path(store_path)
        self.path = parts_path(self.store_path)

    def part_path(self, video_id: str) -> Path:
        """Return where the part of a video goes."""
        return self.path / f"{part_key(video_id)}.h5"

    def segment_path(self, video_id: str, index: int) -> Path:
        """Return where segment `index`, counted from 0, of a long video goes."""
        return self.path / f"{part_key(video_id)}~s{index:05d}.h5"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for writing while the `with` block runs.

        Raises
        ------
        StoreBusyError
            Another process holds it.

        Warns
        -----
        RuntimeWarning
            The file system knows no locks: two runs at once would not notice each other.
        """
        with atomic.no_space_translated(self.path):
            descriptor = self._locked_descriptor()
        try:
            yield
        finally:
            try:
                self._remove_if_empty()
            finally:
                os.close(descriptor)

    def _remove_if_empty(self) -> None:
        if not any(entry.name != LOCK_NAME for entry in self._entries()):
            with contextlib.suppress(OSError):
                (self.path / LOCK_NAME).unlink()
                self.path.rmdir()

    def _locked_descriptor(self) -> int:
        """Open the lock file and lock it, whoever removes it meanwhile."""
        name = self.path / LOCK_NAME
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was removed by a run that has just ended
            try:
                self._flock(descriptor)
                if name.exists() and os.path.samestat(os.fstat(descriptor), name.stat()):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {atomic.host_name()}".encode())
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _flock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
            raise StoreBusyError(
                f"{self.store_path} is being written by {owner}; wait for it or end it, then run this again"
            ) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            warnings.warn(
                f"{self.path} lies on a file system without locks ({error.strerror}): make sure that no "
                "other process writes this store",
                RuntimeWarning,
                stacklevel=4,
            )

    def remove_dead_temporaries(self) -> Sweep:
        """Remove what dead processes of this host left half-written; keep and name the rest."""
        removed, kept = [], []
        folders = {
            self.path: "",
            shards_path(self.store_path): "",
            self.store_path.parent: self.store_path.name,
        }
        for folder, prefix in folders.items():
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                temporary = atomic.parse_temporary(path) if path.name.startswith(prefix) else None
                if temporary is None:
                    continue
                if temporary.owner_is_dead:
                    path.unlink(missing_ok=True)
                    removed.append(path)
                else:
                    kept.append(path)
        return Sweep(removed=tuple(removed), kept=tuple(kept))

    def committed_parts(self) -> list[Path]:
        """Return the files of all committed parts, sorted; segments are none."""
        return [
            path for path in self._entries() if path.suffix == ".h5" and not _SEGMENT.fullmatch(path.name)
        ]

    def remove_segments(self, video_ids: Collection[str]) -> None:
        """Remove every segment of these videos."""
        keys = {part_key(video_id) for video_id in video_ids}
        for path in self._entries():
            match = _SEGMENT.fullmatch(path.name)
            if match and match["key"] in keys:
                path.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return sorted(self.path.iterdir()) if self.path.is_dir() else []
