"""One video read by address: `os.pread` and libdeflate, without HDF5 and its lock.

Threads then read at once, and a descriptor may be used on both sides of a fork, since each read
names its position. The addresses come from the file's index (`flowkit.store.addresses`) and are no
more trusted than anything else in a file: they are checked against the file's size, and sizes against
the largest that an image can take.
"""

from __future__ import annotations

import functools
import math
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError
from flowkit.store import checked_hdf5
from flowkit.store.addresses import DTYPES, FRAME, ROWS_CRC, address_names, row_crc, storage_of
from flowkit.store.codecs.deflate import has_libdeflate
from flowkit.store.codecs.storage import Chunks, FieldSource
from flowkit.store.read.video import Extent, StoredVideo, check_crc
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FILE_BYTES, INDEX, StoreOptions
from flowkit.store.video_table import VideoTable

_HEADROOM_BYTES = 1 << 16
_RUN_BYTES = 1 << 20
"""Largest read of adjacent chunks; a clip passes through memory in reads of this size."""


class CannotRead(Exception):
    """A file cannot be read by address; the text gives the reason. It is no error: HDF5 reads it."""


class DirectFile:
    """A file of a store that is read by address.

    Parameters
    ----------
    file
        The open file, of which this keeps a descriptor of its own.
    table
        Its `/index/videos`.

    Raises
    ------
    CannotRead
        It is no plain file, was repacked, lacks addresses, or libdeflate is absent.
    """

    def __init__(self, file: h5py.File, table: VideoTable, options: StoreOptions) -> None:
        if file.driver != "sec2":
            raise CannotRead(f"it is read through HDF5's driver {file.driver!r}")
        if options.codec.storage.deflated and not has_libdeflate():
            raise CannotRead("the package `deflate` (libdeflate) is not installed")
        self.name = os.fspath(file.filename)
        # The file that HDF5 has open, even if another has its name by now.
        self._descriptor = os.dup(file.id.get_vfd_handle())
        self._finalizer = weakref.finalize(self, os.close, self._descriptor)
        try:
            self._size = os.fstat(self._descriptor).st_size
            self._locate(file, table, options)
        except BaseException:  # Ctrl-C too: nothing stays open
            self.close()
            raise

    def _locate(self, file: h5py.File, table: VideoTable, options: StoreOptions) -> None:
        stamp = checked_hdf5.read_number(checked_hdf5.group(file, INDEX), FILE_BYTES)
        if stamp != self._size:
            raise CannotRead(f"it was repacked: it has {self._size} bytes, its index was made for {stamp}")
        self._names = address_names(options)
        self._rows = table.rows
        self._starts = {name: _starts(table.kept[name]) for name in ("n_frames", "n_flow")}
        self._offsets = {ROWS_CRC: _offset(file, ROWS_CRC, "<u4", len(table))}
        for name, kinds in self._names.items():
            count = int(self._starts[_count_name(name)][-1]) * storage_of(name, options).chunks_per_item
            for kind in kinds:
                self._offsets[f"{name}_{kind}"] = _offset(file, f"{name}_{kind}", DTYPES[kind], count)

    def close(self) -> None:
        """Close the descriptor."""
        self._finalizer()

    def read(self, offset: int, nbytes: int) -> bytes:
        """Return stored bytes; a range outside the file raises StoreCorruptError."""
        if not self._finalizer.alive:  # the number of a closed descriptor may be another file's now
            raise StoreError(f"{self.name} is closed; open the store again to read from it")
        if not 0 <= offset <= self._size - nbytes:
            raise StoreCorruptError(f"{nbytes} bytes at {offset} are outside {self.name}")
        data = os.pread(self._descriptor, nbytes, offset)
        while len(data) < nbytes:  # Linux reads 2 GiB at most, network file systems less
            more = os.pread(self._descriptor, nbytes - len(data), offset + len(data))
            if not more:
                raise StoreCorruptError(f"{self.name} was cut short while it was read")
            data += more
        return data

    def index_slices(self, video_id: str, options: StoreOptions) -> dict[str, NDArray[Any]]:
        """Return one video's slice of each array of the index.

        Raises
        ------
        StoreCorruptError
            The index fails its own checksum, or addresses are outside the file.
        """
        row = self._rows[video_id]
        found: dict[str, NDArray[Any]] = {}
        for name, kinds in self._names.items():
            starts, each = self._starts[_count_name(name)], storage_of(name, options).chunks_per_item
            first, stop = int(starts[row]) * each, int(starts[row + 1]) * each
            for kind in kinds:
                found[f"{name}_{kind}"] = self._slice(f"{name}_{kind}", DTYPES[kind], first, stop)
        crc32 = int(self._slice(ROWS_CRC, "<u4", row, row + 1)[0])
        if row_crc(video_id, found.values()) != crc32:
            raise StoreCorruptError(f"the addresses of {video_id!r} in {self.name} fail their CRC")
        return found

    def _slice(self, name: str, dtype: str, first: int, stop: int) -> NDArray[Any]:
        kind = np.dtype(dtype)
        raw = self.read(self._offsets[name] + first * kind.itemsize, (stop - first) * kind.itemsize)
        return np.frombuffer(raw, kind)


class DirectChunks:
    """Byte strings of a file by their addresses.

    Parameters
    ----------
    limit
        Largest size of a chunk, bytes.
    """

    def __init__(
        self, file: DirectFile, where: str, arrays: dict[str, NDArray[Any]], *, limit: int, check: bool
    ) -> None:
        self._file = file
        self._where = where
        self._check = check
        self.crcs = arrays["crc32"]
        self._limit = limit
        self._addresses, self._sizes = arrays["addr"], arrays["nbytes"]

    def __getitem__(self, index: int) -> bytes:
        return bytes(next(self.each([index])))

    def each(self, indices: Sequence[int]) -> Iterator[memoryview]:
        """Yield several; adjacent ones in one read: fewer calls, and fewer switches of threads at the GIL."""
        chosen = np.asarray(indices, np.intp)
        addresses, sizes = self._addresses[chosen].tolist(), self._sizes[chosen].tolist()
        for first, stop in _runs(addresses, sizes):
            for position in range(first, stop):
                self._check_size(indices[position], sizes[position])
            start = addresses[first]
            run = memoryview(self._file.read(start, sum(sizes[first:stop])))
            for position in range(first, stop):
                begin = addresses[position] - start
                chunk = run[begin : begin + sizes[position]]
                if self._check:
                    check_crc(chunk, self.crcs[indices[position]], indices[position], self._where)
                yield chunk

    def _check_size(self, index: int, nbytes: int) -> None:
        if nbytes > self._limit:
            raise StoreCorruptError(
                f"chunk {index} of {self._where} has {nbytes} bytes, more than {self._limit}"
            )


class _DirectSource:
    """One flow field, or the frames, of a video, by the arrays of the index that are theirs."""

    def __init__(self, file: DirectFile, where: str, arrays: dict[str, NDArray[Any]], *, check: bool) -> None:
        self._file, self._where, self._arrays, self._check = file, where, arrays, check

    def dataset_chunks(self, dtype: np.dtype[np.number], shape: tuple[int, ...]) -> Chunks:
        return self._chunks(raw_bytes=dtype.itemsize * math.prod(shape[1:]))

    def flat_chunks(self, suffix: str, count: int, raw_bytes: int) -> Chunks:
        return self._chunks(raw_bytes=raw_bytes)

    def scales(self, count: int) -> NDArray[np.float32]:
        return self._arrays["scale"]

    def _chunks(self, *, raw_bytes: int) -> Chunks:
        # Incompressible pixels grow a little, be it as deflate or as JPEG; twice is never reached.
        limit = 2 * raw_bytes + _HEADROOM_BYTES
        return DirectChunks(self._file, self._where, self._arrays, limit=limit, check=self._check)


class DirectVideo(StoredVideo):
    """One video of a file that is read by address.

    Parameters
    ----------
    read_record
        Returns the record from the index, which few readers need.
    through_hdf5
        Opens the video through HDF5, for its times and numbers of clipped components, which have no address.
    check
        Check the CRC of each chunk.
    """

    def __init__(
        self,
        file: DirectFile,
        extent: Extent,
        options: StoreOptions,
        *,
        read_record: Callable[[], VideoRecord],
        through_hdf5: Callable[[], StoredVideo],
        check: bool = True,
    ) -> None:
        super().__init__(extent, options)
        self._file = file
        self._read_record = read_record
        self._through_hdf5 = through_hdf5
        self._check = check
        self._ranges = file.index_slices(extent.video_id, options)

    @functools.cached_property
    def record(self) -> VideoRecord:
        """The record, from the index."""
        return self._read_record()

    @functools.cached_property
    def pts(self) -> NDArray[np.float64]:
        """Time of each frame, float64 (n_frames,), seconds."""
        return self._through_hdf5().pts

    def stored_clipped(self, name: str) -> NDArray[np.int32] | None:
        """Return the stored array of how many components of each pair the codec clipped, None without one."""
        return self._through_hdf5().stored_clipped(name)

    def _frame_source(self) -> FieldSource:
        return self._field_source(FRAME)

    def _field_source(self, name: str) -> FieldSource:
        kinds = storage_of(name, self.options).index_arrays
        arrays = {kind: self._ranges[f"{name}_{kind}"] for kind in kinds}
        where = f"{name} of {self.extent.video_id!r} in {self._file.name}"
        return _DirectSource(self._file, where, arrays, check=self._check)


def _runs(addresses: Sequence[int], sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, stop) of the chunks stored end to end, up to `_RUN_BYTES` or one chunk."""
    first = 0
    for position in range(1, len(addresses) + 1):
        if position < len(addresses):
            end = addresses[position - 1] + sizes[position - 1]
            if addresses[position] == end and end + sizes[position] - addresses[first] <= _RUN_BYTES:
                continue
        yield first, position
        first = position


def _count_name(name: str) -> str:
    return "n_frames" if name == FRAME else "n_flow"


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first entry of each row, int64 (rows + 1,), by exact sums."""
    if len(counts) and (counts.min() < 0 or counts.max() >= 1 << 31):
        raise StoreFormatError(f"the index has counts from {counts.min()} to {counts.max()}")
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _offset(file: h5py.File, name: str, dtype: str, count: int) -> int:
    """Return the byte offset of an array of the index."""
    if name not in file[INDEX]:
        raise CannotRead(f"its index has no {name}")
    node = checked_hdf5.dataset(file, f"{INDEX}/{name}", dtype=dtype, shape=(count,))
    offset = node.id.get_offset()
    if offset is None and count:
        raise CannotRead(f"{name} of its index is not contiguous")
    return offset or 0
