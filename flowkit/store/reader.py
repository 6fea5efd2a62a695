"""Read a store: a mapping of ids to clips.

Files open on first use in each process and a store pickles by its path, so that it can go to
the workers of a data loader. HDF5's file locking is off: stores lie on read-only and network
file systems.
"""

from __future__ import annotations

import dataclasses
import difflib
import operator
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import (
    ClipNotFoundError,
    ClipRangeError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
)
from flowkit.quantize import dequantize_u8
from flowkit.store import guard, index
from flowkit.store.inventory import read_shard_table, shard_name
from flowkit.store.parts import shards_path
from flowkit.store.schema import (
    INDEX_COLUMNS,
    INDEX_VIDEOS,
    SHARD_TABLE,
    Attributes,
    Failure,
    StoreOptions,
    VideoRecord,
    check_video_id,
    field_names,
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


class Store(Mapping[str, "Clip"]):
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

    def _stored(self, video_id: str) -> StoredVideo:
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


class Clip:
    """One video of a store."""

    def __init__(self, store: Store, video_id: str) -> None:
        self.id = video_id
        self._store = store
        self._cached: tuple[int, StoredVideo] | None = None

    def __repr__(self) -> str:
        return f"<flowkit clip {self.id!r} of {str(self._store.path)!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Clip, (self._store, self.id)

    @property
    def _video(self) -> StoredVideo:
        if self._cached is None or self._cached[0] != os.getpid():
            self._cached = (os.getpid(), self._store._stored(self.id))
        return self._cached[1]

    @property
    def record(self) -> VideoRecord:
        """Everything that the store says of the video."""
        return self._video.record

    @property
    def attrs(self) -> Attributes:
        """The attributes of the video as they are stored."""
        return self.record.to_attrs()

    @property
    def label(self) -> str:
        """Class name; empty where there is none."""
        return self.record.label

    @property
    def n_frames(self) -> int:
        """How many frames the video has."""
        return self.record.n_frames

    @property
    def n_flow(self) -> int:
        """How many flow fields it has: field k leads from frame k to frame k + step."""
        return self.record.n_flow

    @property
    def width(self) -> int:
        """Width of frames and flow, px."""
        return self.record.width

    @property
    def height(self) -> int:
        """Height of frames and flow, px."""
        return self.record.height

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the flow fields."""
        return field_names(self._store.options)

    @property
    def pts(self) -> NDArray[np.float64]:
        """Presentation time of each frame, float64 (n_frames,), seconds."""
        with self._contained():
            return self._video.pts

    def flow(self, start: int = 0, stop: int | None = None, field: str = "flow") -> NDArray[np.float32]:
        """Return flow fields start to stop - 1.

        Parameters
        ----------
        start, stop
            Range in [0, n_flow]; without `stop`, to the end.
        field
            One of `fields`.

        Returns
        -------
        float32 array (stop - start, 2, H, W)
            u (to the right), then v (down), px per step between the frames of a pair.

        Raises
        ------
        ClipRangeError
            The range or the field lies outside the clip.
        StoreCorruptError
            A stored field fails its CRC.
        """
        codes, scales = self.flow_codes(start, stop, field)
        if codes.dtype == np.uint8:
            return dequantize_u8(codes, bound_px=self._store.options.bound_px)
        flow: NDArray[np.float32] = codes * scales[:, None, None, None]
        return flow

    def flow_codes(
        self, start: int = 0, stop: int | None = None, field: str = "flow"
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return flow fields as they are stored; parameters as `flow`'s.

        Returns
        -------
        codes : int8, int16 or uint8 array (n, 2, H, W)
        scales : float32 array (n,)
            px a code: flow = codes * scale; of uint8 codes, flow = codes * scale - bound.
        """
        start, stop = operator.index(start), None if stop is None else operator.index(stop)
        with self._contained():
            video = self._video
            record, stored = video.record, video.field(field)
            stop = record.n_flow if stop is None else stop
            if not 0 <= start <= stop <= record.n_flow:
                raise ClipRangeError(
                    f"flow fields [{start}, {stop}) lie outside {self.id!r}: "
                    f"expected 0 <= start <= stop <= {record.n_flow}"
                )
            shape = (0, 2, record.height, record.width)
            codes = [stored.codes(k) for k in range(start, stop)]
            stacked = np.stack(codes) if codes else np.zeros(shape, stored.dtype)
            return stacked, stored.scales[start:stop]

    def frames(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return frames by their indices, in the order given.

        Parameters
        ----------
        indices
            Each in [0, n_frames).

        Returns
        -------
        uint8 array (len(indices), H, W, 3), RGB

        Raises
        ------
        ClipRangeError
            An index lies outside the clip, or the store keeps no frames.
        StoreCorruptError
            A stored frame fails its CRC.
        """
        wanted = [operator.index(k) for k in indices]
        with self._contained():
            video = self._video
            record = video.record
            outside = [k for k in wanted if not 0 <= k < record.n_frames]
            if outside:
                raise ClipRangeError(
                    f"frames {outside[:5]} lie outside {self.id!r}: expected 0 <= index < {record.n_frames}"
                )
            pictures = [video.frame(k) for k in wanted]
            empty = np.zeros((0, record.height, record.width, 3), np.uint8)
            return np.stack(pictures) if pictures else empty

    def _contained(self) -> Any:
        return guard.contained(f"{self.id!r} of {self._store.path}")


def _reopened(path: Path, check: bool) -> Store:
    return Store(path, check=check)


def _counts(column: NDArray[Any]) -> dict[str, int]:
    return {raw.decode(errors="replace"): n for raw, n in sorted(Counter(column.tolist()).items())}
