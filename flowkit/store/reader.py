"""Read a store: a mapping of ids to clips.

Files open on first use in each process and a store pickles by its path, so that it can go to
the workers of a data loader. HDF5's file locking is off: stores lie on read-only and network
file systems.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
from numpy.typing import NDArray

from flowkit.errors import (
    ClipNotFoundError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
)
from flowkit.store import guard, index
from flowkit.store.clip import Clip as Clip
from flowkit.store.inventory import read_shard_table, shard_name
from flowkit.store.parts import shards_path
from flowkit.store.schema import (
    INDEX_COLUMNS,
    INDEX_VIDEOS,
    SHARD_TABLE,
    Failure,
    StoreOptions,
    check_video_id,
)
from flowkit.store.stored import StoredVideo
from flowkit.store.tables import read_table

_MATCHED_IDS = 5000
_ROOT_ATTRS = {"format_version": str, "flowkit_version": str, "uuid": str, "created": str}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreInfo:
    """A store in a few numbers."""

    path: str
    format_version: str
    flowkit_version: str
    uuid: str
    created: str
    options: StoreOptions
    n_videos: int
    n_frames: int
    n_flow: int
    """Flow fields of each kind."""
    n_failures: int
    bytes: int
    """Of all its files."""
    shards: tuple[str, ...]
    missing_shards: tuple[str, ...]
    per_label: Mapping[str, int]
    per_status: Mapping[str, int]
    per_backend: Mapping[str, int]
    flow_max_px: float


def open_store(path: Path | str, *, check: bool = True) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path
        The store's file.
    check
        Whether each piece that is read is held to its CRC.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreFormatError
        It is no store, of a newer format, or holds what no flowkit writes.
    StoreCorruptError
        It is damaged.

    Warns
    -----
    RuntimeWarning
        Shards are missing; the warning names them, and the other videos can be read.
    """
    return Store(path, check=check)


class Store(Mapping[str, Clip]):
    """An open store; `open_store` makes one.

    Attributes
    ----------
    path : Path
    options : StoreOptions
    labels : tuple of str
        Class names in order.
    failures : tuple of Failure
        What did not make it, and why.
    missing_shards : tuple of str
        Shards that are not there; their videos are left out of the mapping.
    """

    def __init__(self, path: Path | str, *, check: bool = True) -> None:
        self.path = Path(path)
        self._check = check
        self._closed = False
        self._files: dict[Path, h5py.File] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        head = self._open(self.path)
        with guard.contained(self.path):
            self._read_head(head)
        if self.missing_shards:
            lost = len(self._table) - len(self._rows)
            warnings.warn(
                f"{self.path} lacks the shards {', '.join(self.missing_shards)} with {lost} videos; "
                "the other videos can be read",
                RuntimeWarning,
                stacklevel=3,
            )

    def _read_head(self, head: h5py.File) -> None:
        self._root = guard.read_attrs(head, _ROOT_ATTRS)
        self.options: StoreOptions = guard.read_options(head)
        self.labels: tuple[str, ...] = index.read_labels(head)
        self.failures: tuple[Failure, ...] = index.read_failures(head)
        self._shards: dict[int, Path] | None = None
        self.missing_shards: tuple[str, ...] = ()
        absent: set[int] = set()
        if SHARD_TABLE in head:
            table, _ = read_shard_table(head)
            self._shards = {shard.number: shards_path(self.path) / shard.name for shard in table}
            absent = {number for number, path in self._shards.items() if not path.is_file()}
            self.missing_shards = tuple(shard_name(number) for number in sorted(absent))
        self._table = read_table(head, INDEX_VIDEOS, INDEX_COLUMNS)
        self._rows = self._checked_rows(absent)

    def _checked_rows(self, absent: set[int]) -> dict[str, int]:
        """Return the row of each id whose shard is there."""
        try:
            ids = [check_video_id(raw.decode()) for raw in self._table["id"]]
        except ValueError as error:
            raise StoreFormatError(f"the index of {self.path} has an impossible id: {error}") from error
        if len(set(ids)) < len(ids):
            raise StoreFormatError(f"the index of {self.path} has an id twice")
        shards = self._table["shard"].tolist()
        if self._shards is not None and not self._shards.keys() >= set(shards):
            raise StoreFormatError(f"the index of {self.path} names shards that the shard table does not")
        return {video_id: row for row, video_id in enumerate(ids) if shards[row] not in absent}

    def __getitem__(self, video_id: str) -> Clip:
        if video_id not in self._rows:
            raise self._not_found(video_id)
        return Clip(self, video_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<flowkit store {str(self.path)!r}: {len(self)} videos>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._check)

    def close(self) -> None:
        """Close the files; clips cannot be read afterwards."""
        self._closed = True
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()

    def info(self) -> StoreInfo:
        """Return the store in a few numbers."""
        table = self._table[list(self._rows.values())]
        shards = list((self._shards or {}).values())
        files = [self.path, *(path for path in shards if path.is_file())]
        return StoreInfo(
            path=str(self.path),
            **{name: str(self._root.get(name, "")) for name in _ROOT_ATTRS},
            options=self.options,
            n_videos=len(self),
            n_frames=int(table["n_frames"].sum()),
            n_flow=int(table["n_flow"].sum()),
            n_failures=len(self.failures),
            bytes=sum(os.path.getsize(path) for path in files),
            shards=tuple(path.name for path in shards),
            missing_shards=self.missing_shards,
            per_label=_counts(table["label"]),
            per_status=_counts(table["status"]),
            per_backend=_counts(table["backend"]),
            flow_max_px=float(table["flow_max_px"].max(initial=0.0)),
        )

    def _open(self, path: Path) -> h5py.File:
        """Return the open file of this process."""
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed; open it again to read from it")
            if self._pid != os.getpid():
                # Handles of the parent process share its file positions and HDF5 state.
                self._pid, self._files = os.getpid(), {}
            if path not in self._files:
                self._files[path] = guard.open_file(path)
            return self._files[path]

    def stored_video(self, video_id: str) -> StoredVideo:
        """Open one video, in the file that the index names; links are checked, never followed."""
        with guard.contained(self.path):
            path, row = self.path, self._table[self._rows[video_id]]
            if self._shards is not None:
                path = self._shards[int(row["shard"])]
                guard.check_link(self._open(self.path), video_id, path)
            return StoredVideo(self._open(path), index.row_record(row), self.options, check=self._check)

    def _not_found(self, video_id: str) -> StoreError:
        known = [raw.decode() for raw in self._table["id"]]
        if video_id in known:
            return StoreNotFoundError(
                f"the shard of {video_id!r} is missing: {self.path} lacks {', '.join(self.missing_shards)} "
                f"in {shards_path(self.path)}; put it back"
            )
        close = difflib.get_close_matches(str(video_id), known[:_MATCHED_IDS], n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        return ClipNotFoundError(f"{self.path} has no video {video_id!r}{hint}")


def _reopened(path: Path, check: bool) -> Store:
    return Store(path, check=check)


def _counts(column: NDArray[Any]) -> dict[str, int]:
    return {raw.decode(errors="replace"): n for raw, n in sorted(Counter(column.tolist()).items())}
