"""Read a store: a mapping of ids to clips.

Chunks are read by address (`direct_video`) where the index has addresses that hold, else through HDF5;
`Store.access` names the method. Files open on first use in each process and a store pickles by its
path, so that it can go to the workers of a data loader. They open together with those of plain h5py, and on
file systems without locks.
"""

from __future__ import annotations

import difflib
import functools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, get_args

import h5py
import numpy as np

from flowkit.errors import (
    ClipNotFoundError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
)
from flowkit.remote import Location, absent_files, locate
from flowkit.store import checked_hdf5, index
from flowkit.store.index import StoreInfo as StoreInfo
from flowkit.store.inventory import read_shard_table, shard_name
from flowkit.store.open_file import StoreFile
from flowkit.store.parts_folder import shards_path
from flowkit.store.read.clip import Clip as Clip
from flowkit.store.read.clip import ClipData as ClipData
from flowkit.store.read.clip import ClipRequest as ClipRequest
from flowkit.store.read.direct_video import CannotRead, DirectFile, DirectVideo
from flowkit.store.read.handles import Access as Access
from flowkit.store.read.handles import AccessMethod, Handles, Source, keep_freed_memory
from flowkit.store.read.hdf5_video import Hdf5Video
from flowkit.store.read.video import Extent, StoredVideo
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import INDEX_COLUMNS, SHARD_TABLE, StoreOptions
from flowkit.store.video_table import VideoTable
from flowkit.validate import check_choice, check_integer

_MATCHED_IDS = 5000
_IN_FLIGHT = 3
"""Clips in flight for each reading thread. Where threads fill all cores, the caller may get the processor
a scheduler's slice after its clip is done, and submits the next only then: enough must be queued
meanwhile. By a simulation with the times of real clips and a caller 1.5 ms late, two threads gain 1.69
over one with three clips in flight, 1.98 with four and 1.99 with six; 3 ms late, 1.23, 1.62 and 1.99."""
_REMEMBERED_FRAMES = 1 << 19
"""Frames of the videos that are kept open; each takes some 40 bytes."""
_EXTENT = ("n_frames", "n_flow", "height", "width")
_INDEX_OF_A_SHARD = ("id", "n_frames", "n_flow")


def open_store(
    path: Location | str | BinaryIO, *, check: bool = True, access: AccessMethod = "auto"
) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path
        The store's file; an address of fsspec such as `s3://bucket/out.h5` or `https://host/out.h5`; or a
        binary file object that can seek. Those that are no files here are read through HDF5.
    check
        Check the CRC of each chunk that is read.
    access
        `auto` reads by address where it can (see `Store.access`), `h5py` always through HDF5.

    Raises
    ------
    InvalidParameterError
        `access` is neither.
    InputError
        fsspec or a package that it needs for an address is not installed.
    StoreNotFoundError
        There is no such file.
    StoreFormatError
        It is no store, of a newer format, or has content that no flowkit writes.
    StoreCorruptError
        It is damaged.

    Warns
    -----
    RuntimeWarning
        Shards are missing; the warning names them, and the other videos can be read.
    """
    return Store(path, check=check, access=access)


class Store(Mapping[str, Clip]):
    """An open store; `flowkit.open` returns one.

    Attributes
    ----------
    path : Path or RemotePath
    options : StoreOptions
    labels : tuple of str
        Class names in order.
    failures : tuple of Failure
        Sources that are not in the store, and why.
    missing_shards : tuple of str
        Missing shards; their videos are left out of the mapping.

    Notes
    -----
    A clip is safe to read from several threads at once, and goes to other processes by fork or
    by pickling; a file object must then be one that pickles, as fsspec's are.
    """

    def __init__(
        self, source: Location | str | BinaryIO, *, check: bool = True, access: AccessMethod = "auto"
    ) -> None:
        check_choice("access", access, get_args(AccessMethod))
        self._handles = Handles(locate(source) if isinstance(source, str | os.PathLike) else source)
        own = self._handles.source
        self.path: Location = own if isinstance(own, Location) else Path(self._handles.name)
        self._check = check
        self._access: AccessMethod = access
        self._linked: set[str] = set()
        self._recent: dict[str, DirectVideo] = {}
        self._recent_frames = 0
        head = self._handles.hdf5()
        with checked_hdf5.contained(self.path):
            self._read_head(head)
        if self.missing_shards:
            lost = len(self._table) - len(self._rows)
            warnings.warn(
                f"{self.path} lacks the shards {', '.join(self.missing_shards)} with {lost} videos; "
                "the other videos can be read",
                RuntimeWarning,
                stacklevel=3,
            )

    def _read_head(self, head: StoreFile) -> None:
        self._metadata = head.metadata
        self.options: StoreOptions = head.metadata.options
        self.labels: tuple[str, ...] = head.metadata.labels
        self.failures: tuple[Failure, ...] = index.read_failures(head)
        self._shards: dict[int, Location] | None = None
        self.missing_shards: tuple[str, ...] = ()
        absent: set[int] = set()
        if SHARD_TABLE in head:
            if not isinstance(self._handles.source, Location):
                raise StoreFormatError(
                    f"{self.path} is a master: its shards cannot be found from a file object; "
                    "open it by its path or address, or open the shards one by one"
                )
            table, _ = read_shard_table(head)
            folder = shards_path(self.path)
            self._shards = {shard.number: folder / shard.name for shard in table}
            lacks = absent_files(list(self._shards.values()))
            absent = {number for number, lack in zip(self._shards, lacks, strict=True) if lack}
            self.missing_shards = tuple(shard_name(number) for number in sorted(absent))
        self._table = VideoTable(head)
        self._absent = frozenset(absent)
        self._rows = self._present_rows()

    def _present_rows(self) -> dict[str, int]:
        """Return the row of each id whose shard exists."""
        if self._shards is None:
            return self._table.rows
        shards = self._table.kept["shard"]
        if not self._shards.keys() >= set(np.unique(shards).tolist()):
            raise StoreFormatError(f"the index of {self.path} names shards that the shard table does not")
        if not self._absent:
            return self._table.rows
        is_there = ~np.isin(shards, sorted(self._absent))
        return {k: row for k, row in self._table.rows.items() if is_there[row]}

    def __getitem__(self, video_id: str) -> Clip:
        if video_id not in self._rows:
            raise self._not_found(video_id)
        return Clip(self, video_id)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._rows

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

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Source, bool, AccessMethod]]:
        return _reopened, (self._handles.source, self._check, self._access)

    def close(self) -> None:
        """Close the files; clips cannot be read afterwards."""
        self._handles.close()

    @property
    def access(self) -> Access:
        """Access method: `pread` if all of its files allow it, else `h5py` with the reason."""
        for shard in [None] if self._shards is None else self._present_shards():
            with checked_hdf5.contained(shard or self.path):
                direct = self._direct(shard)
            if isinstance(direct, CannotRead):
                return Access(method="h5py", reason=f"{(shard or self.path).name}: {direct}")
        return Access(method="pread")

    def read_many(self, requests: Iterable[ClipRequest], *, threads: int | None = None) -> Iterator[ClipData]:
        """Read frames and flow of many clips, several at once.

        Parameters
        ----------
        requests
            Frames and flow fields to read; drawn as they are needed, so that they may be endless.
        threads
            Number of reading threads; without it, one for each core that this process may use.

        Yields
        ------
        ClipData
            In the order of the requests.

        Raises
        ------
        ClipNotFoundError, ClipRangeError, StoreCorruptError
            As the clips' own methods.
        """
        if threads is not None:
            check_integer("threads", threads, 1)
        workers = threads or len(os.sched_getaffinity(0))
        if workers <= 1:
            yield from map(self._read_one, requests)
            return
        keep_freed_memory()
        with ThreadPoolExecutor(workers, thread_name_prefix="flowkit-read") as pool:
            waiting: deque[Future[ClipData]] = deque()
            try:
                for request in requests:
                    waiting.append(pool.submit(self._read_one, request))
                    if len(waiting) >= _IN_FLIGHT * workers:  # bounded: results wait in memory
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _read_one(self, request: ClipRequest) -> ClipData:
        return self[request.video_id]._read(request)

    def column(self, name: str) -> list[Any]:
        """Return a column of the index, one value a video, in their order.

        Parameters
        ----------
        name
            `id` or an attribute of a clip's record, as `n_flow` or `label`.

        Raises
        ------
        InvalidParameterError
            There is no such column.
        """
        check_choice("column", name, INDEX_COLUMNS)
        with checked_hdf5.contained(self.path):
            column = self._table.column(self._handles.hdf5(), name)
            whole = self._rows is self._table.rows
            cells: list[Any] = (column if whole else column[list(self._rows.values())]).tolist()
            return [cell.decode() for cell in cells] if INDEX_COLUMNS[name] is str else cells

    def info(self) -> StoreInfo:
        """Return a summary of the store."""
        shards = list((self._shards or {}).values())
        files = [None, *self._present_shards()]
        return StoreInfo(
            path=str(self.path),
            format_version=self._metadata.format_version,
            flowkit_version=self._metadata.flowkit_version,
            uuid=self._metadata.uuid,
            created=self._metadata.created,
            options=self.options,
            n_failures=len(self.failures),
            bytes=sum(checked_hdf5.file_bytes(self._handles.hdf5(path)) for path in files),
            shards=tuple(path.name for path in shards),
            missing_shards=self.missing_shards,
            **self._table.sums(self._handles.hdf5(), without_shards=self._absent),
        )

    def stored_video(self, video_id: str) -> StoredVideo:
        """Open one video in the file that the index names; links are checked, never followed."""
        recent = self._recent.get(video_id)
        if recent is not None:
            return recent
        with checked_hdf5.contained(self.path):
            row, kept = self._rows[video_id], self._table.kept
            extent = Extent(video_id=video_id, **{name: int(kept[name][row]) for name in _EXTENT})
            shard = None if self._shards is None else self._shards[int(kept["shard"][row])]
            if shard is not None and video_id not in self._linked:
                checked_hdf5.check_link(self._handles.hdf5(), video_id, shard)
                self._linked.add(video_id)
            read_record = functools.partial(self._record, row)
            through_hdf5 = functools.partial(self._through_hdf5, shard, row)
            direct = self._direct(shard)
            if isinstance(direct, CannotRead):
                return through_hdf5()
            options = self.options
            video = DirectVideo(
                direct,
                extent,
                options,
                read_record=read_record,
                through_hdf5=through_hdf5,
                check=self._check,
            )
        self._remember(video_id, video)
        return video

    def _remember(self, video_id: str, video: DirectVideo) -> None:
        """Cache an open video: read by address, it is valid in threads and after a fork."""
        self._recent_frames += video.extent.n_frames
        if self._recent_frames > _REMEMBERED_FRAMES:
            # A new dict, not an emptied one: other threads may be reading the old.
            self._recent, self._recent_frames = {}, video.extent.n_frames
        self._recent[video_id] = video

    def _record(self, row: int) -> VideoRecord:
        with checked_hdf5.contained(self.path):
            return index.row_record(self._table.row(self._handles.hdf5(), row))

    def _through_hdf5(self, shard: Location | None, row: int) -> StoredVideo:
        return Hdf5Video(self._handles.hdf5(shard), self._record(row), self.options, check=self._check)

    def _direct(self, shard: Location | None) -> DirectFile | CannotRead:
        if self._access == "h5py":
            return CannotRead("it was asked for")
        return self._handles.direct(shard, self._index_of, self.options)

    def _index_of(self, file: h5py.File) -> VideoTable:
        if self._shards is None:
            return self._table
        return VideoTable(file, {name: INDEX_COLUMNS[name] for name in _INDEX_OF_A_SHARD})

    def _present_shards(self) -> list[Location]:
        return [path for path in (self._shards or {}).values() if path.name not in self.missing_shards]

    def _not_found(self, video_id: str) -> StoreError:
        if video_id in self._table.rows:
            return StoreNotFoundError(
                f"the shard of {video_id!r} is missing: {self.path} lacks {', '.join(self.missing_shards)} "
                f"in {shards_path(self.path)}; put it back"
            )
        close = difflib.get_close_matches(str(video_id), [*islice(self._table.rows, _MATCHED_IDS)], n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        return ClipNotFoundError(f"{self.path} has no video {video_id!r}{hint}")


def _reopened(source: Source, check: bool, access: AccessMethod) -> Store:
    return Store(source, check=check, access=access)
