"""Check a file by its checksums alone: every byte of it, nothing decoded.

The checksum of all that is outside the chunks proves the index, and the index has address, size and CRC of
each chunk; together they cover every byte. They say that the file is what was written, not that what was
written fits together; that is for `check_file`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreUnreadableError
from flowkit.store import checked_hdf5, index
from flowkit.store.addresses import (
    FRAME,
    ROWS_CRC,
    address_names,
    index_arrays,
    index_slices,
    row_crc,
    storage_of,
)
from flowkit.store.codecs.deflate import crc32
from flowkit.store.file_crc import file_state
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions

READ_BYTES = 4 << 20
"""Read at once, of chunks that lie one after another."""
_GAP_BYTES = 64 << 10
"""Bytes between two chunks that cost less to read than to leave out."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Checksums:
    """Findings in a file whose index is proven.

    Attributes
    ----------
    records : dict
        By id, of every video.
    suspects : set of str
        Ids of the videos whose chunks, counts or scales are not as they should be.
    n_fields : int
        Flow fields of a pair.
    n_checked : int
        Videos whose chunks were read.
    """

    records: dict[str, VideoRecord]
    suspects: set[str]
    n_fields: int
    n_checked: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Chunks:
    """All chunks of a file: beginning, size, CRC, and the number of the video that each belongs to."""

    start: NDArray[np.int64]
    size: NDArray[np.int64]
    crc32: NDArray[np.uint32]
    video: NDArray[np.int64]

    def of(self, rows: NDArray[np.generic]) -> _Chunks:
        return _Chunks(self.start[rows], self.size[rows], self.crc32[rows], self.video[rows])

    def spans(self) -> Iterator[_Chunks]:
        """Yield them in the order of the file, together what one read takes."""
        ordered = self.of(np.argsort(self.start, kind="stable"))
        stop = ordered.start + ordered.size
        first = 0
        apart = np.flatnonzero(ordered.start[1:] > stop[:-1] + _GAP_BYTES) + 1
        for last in [*apart.tolist(), len(stop)]:
            while first < last:
                most = int(np.searchsorted(stop[:last], ordered.start[first] + READ_BYTES, side="right"))
                until = max(first + 1, most)
                yield ordered.of(np.arange(first, until))
                first = until


def check_checksums(
    path: Path,
    *,
    only: Callable[[Collection[str]], Collection[str]] = lambda ids: ids,
    threads: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Checksums | None:
    """Check every byte of a file; None where it has no checksum that proves its index, or not this one.

    Parameters
    ----------
    path
        The file.
    only
        Draws from the ids those whose chunks are read.
    threads
        That read and add up.
    on_progress
        Called with the fraction of the chunks' bytes that is checked, now and then.

    Raises
    ------
    StoreNotFoundError, StoreUnreadableError
        It is not there, or the system does not let it be read now.
    StoreFormatError, StoreCorruptError
        It cannot be opened.
    """
    with open_file(path, recovers=True) as file, checked_hdf5.contained(path):
        options = file.metadata.options
        if file_state(file, options) != "sound":
            return None
        records = index.read_index(file)[0]
        chunks, suspects = _chunks(file, list(records.values()), options)
        ids = list(records)
        drawn = set(only(ids))
        wanted = np.array([k in drawn for k in ids], bool)
        chunks = chunks.of(wanted[chunks.video])
        for videos in _differing(path, chunks, threads, on_progress):
            suspects |= videos
    return Checksums(
        records=records,
        suspects={ids[k] for k in suspects},
        n_fields=len(options.fields),
        n_checked=len(drawn),
    )


def _chunks(file: StoreFile, records: list[VideoRecord], options: StoreOptions) -> tuple[_Chunks, set[int]]:
    """Return all chunks, and the numbers of videos whose counts, scales or rows are wrong."""
    n_frames = np.array([one.n_frames for one in records], np.int64)
    n_flow = np.array([one.n_flow for one in records], np.int64)
    suspects = set(np.flatnonzero(n_flow != np.maximum(0, n_frames - options.step)).tolist())
    arrays = index_arrays(file, records, options)
    for k, (record, own) in enumerate(zip(records, index_slices(arrays, records, options), strict=True)):
        expected = int(own.pop(ROWS_CRC)[0])
        if row_crc(record.video_id, own.values()) != expected:
            suspects.add(k)
    found = []
    for name in address_names(options):
        each = storage_of(name, options).chunks_per_item
        video = np.repeat(np.arange(len(records)), each * (n_frames if name == FRAME else n_flow))
        if (scale := arrays.get(f"{name}_scale")) is not None:
            suspects |= set(video[~np.isfinite(scale)].tolist())
        addr, nbytes = (arrays[f"{name}_{kind}"].astype(np.int64) for kind in ("addr", "nbytes"))
        found.append(_Chunks(addr, nbytes, arrays[f"{name}_crc32"].astype(np.uint32), video))
    chunks = _Chunks(*(np.concatenate([getattr(one, name) for one in found]) for name in _Chunks.__slots__))
    outside = chunks.start < 0
    suspects |= set(chunks.video[outside].tolist())
    return chunks.of(~outside), suspects


def _differing(
    path: Path, chunks: _Chunks, threads: int, on_progress: Callable[[float], None]
) -> Iterator[set[int]]:
    """Yield the numbers of videos with a chunk that is not as its CRC says."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(threads) as pool:
            size = os.fstat(descriptor).st_size

            def check(span: _Chunks) -> set[int]:
                return _differing_in(descriptor, size, span, path)

            spans = list(chunks.spans())
            done, whole = 0, max(1, int(chunks.size.sum()))
            for span, videos in zip(spans, pool.map(check, spans), strict=True):
                done += int(span.size.sum())
                on_progress(done / whole)
                yield videos
    finally:
        os.close(descriptor)


def _differing_in(descriptor: int, size: int, span: _Chunks, path: Path) -> set[int]:
    first, last = int(span.start[0]), int((span.start + span.size).max())
    data = memoryview(_read(descriptor, first, min(last, size) - first, path))
    starts = (span.start - first).tolist()
    rows = zip(starts, span.size.tolist(), span.crc32.tolist(), span.video.tolist(), strict=True)
    return {
        video
        for start, length, expected, video in rows
        if start + length > len(data) or crc32(data[start : start + length]) != expected
    }


def _read(descriptor: int, offset: int, count: int, path: Path) -> bytes:
    """Return bytes; fewer where the file ends."""
    parts = []
    while count > 0:
        try:
            part = os.pread(descriptor, count, offset)  # Linux reads 2 GiB at most, others less
        except OSError as error:
            raise StoreUnreadableError(f"{path} cannot be read now: {error}") from error
        if not part:
            break
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
