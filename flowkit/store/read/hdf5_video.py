"""One video read through HDF5: to verify and repack, and where reading by address is impossible.

It depends on no address and works on any file that HDF5 can open.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError
from flowkit.store import checked_hdf5
from flowkit.store.codecs.storage import Chunks, FieldSource
from flowkit.store.read.video import Extent, StoredVideo, check_crc
from flowkit.store.record import VideoRecord
from flowkit.store.schema import CRC32, VIDEOS, StoreOptions, clipped_name


class _FlatChunks:
    """Byte strings stored end to end in one dataset: frames, or flow as JPEG.

    Parameters
    ----------
    name
        Dataset of the bytes; offsets and checksums are `<prefix>_offset` and `<prefix>_crc32`.
    count
        Number of chunks.
    check
        Check the CRC of each.
    """

    def __init__(self, group: h5py.Group, name: str, *, prefix: str, count: int, check: bool) -> None:
        self._where = f"{group.name}/{name} of {group.file.filename}"
        self._data = checked_hdf5.dataset(group, name, dtype="u1", shape=(None,))
        self._check = check
        self.offsets = checked_hdf5.read_array(group, f"{prefix}_offset", dtype="<i8", shape=(count + 1,))
        self.crcs = checked_hdf5.read_array(group, f"{prefix}_crc32", dtype="<u4", shape=(count,))
        ends = (int(self.offsets[0]), int(self.offsets[-1]))
        if ends != (0, self._data.size) or np.any(np.diff(self.offsets) < 0):
            raise StoreCorruptError(f"the offsets of {self._where} do not divide its {self._data.size} bytes")

    def __getitem__(self, index: int) -> bytes:
        start, stop = self.offsets[index : index + 2].tolist()
        data: bytes = self._data[start:stop].tobytes()
        if self._check:
            check_crc(data, self.crcs[index], index, self._where)
        return data

    def each(self, indices: Sequence[int]) -> Iterator[bytes]:
        """Yield several, one by one."""
        return map(self.__getitem__, indices)


class _DatasetChunks:
    """The deflated chunks of a flow field."""

    def __init__(
        self, group: h5py.Group, name: str, *, shape: tuple[int, ...], dtype: str, check: bool
    ) -> None:
        self._where = f"{group.name}/{name} of {group.file.filename}"
        self._check = check
        self._file_bytes = checked_hdf5.file_bytes(group.file)
        self._data = checked_hdf5.dataset(group, name, dtype=dtype, shape=shape)
        if self._data.chunks != (1, *shape[1:]):
            raise StoreCorruptError(f"{self._where} has chunks {self._data.chunks}, expected one a field")
        self.crcs = checked_hdf5.read_array(group, f"{name}_crc32", dtype="<u4", shape=shape[:1])

    def __getitem__(self, index: int) -> bytes:
        offset = (index, 0, 0, 0)
        found = self._data.id.get_chunk_info_by_coord(offset)
        # Checked against the file before h5py allocates the size that the chunk's index claims.
        if found.byte_offset is None or found.byte_offset + found.size > self._file_bytes:
            raise StoreCorruptError(f"chunk {index} of {self._where} is missing or ends beyond the file")
        mask, data = self._data.id.read_direct_chunk(offset)
        if mask:
            raise StoreCorruptError(f"chunk {index} of {self._where} is stored without its filters")
        if self._check:
            check_crc(data, self.crcs[index], index, self._where)
        return bytes(data)

    def each(self, indices: Sequence[int]) -> Iterator[bytes]:
        """Yield several, one by one."""
        return map(self.__getitem__, indices)


class _Hdf5Source:
    """One flow field, or the frames, of a video's group."""

    def __init__(self, group: h5py.Group, name: str, *, check: bool) -> None:
        self._group, self._name, self._check = group, name, check

    def dataset_chunks(self, dtype: np.dtype[np.number], shape: tuple[int, ...]) -> Chunks:
        return _DatasetChunks(self._group, self._name, shape=shape, dtype=dtype.str, check=self._check)

    def flat_chunks(self, suffix: str, count: int, raw_bytes: int) -> Chunks:
        name = self._name
        return _FlatChunks(self._group, f"{name}{suffix}", prefix=name, count=count, check=self._check)

    def scales(self, count: int) -> NDArray[np.float32]:
        return checked_hdf5.read_proven(self._group, f"{self._name}_scale", dtype="<f4", shape=(count,))


class Hdf5Video(StoredVideo):
    """One video of an open HDF5 file.

    Parameters
    ----------
    check
        Check the CRC of each chunk.
    """

    def __init__(
        self, file: h5py.File, record: VideoRecord, options: StoreOptions, *, check: bool = True
    ) -> None:
        extent = Extent(
            video_id=record.video_id,
            n_frames=record.n_frames,
            n_flow=record.n_flow,
            height=record.height,
            width=record.width,
        )
        super().__init__(extent, options)
        self._record = record
        self.group = checked_hdf5.group(file, f"{VIDEOS}/{record.video_id}")
        self._check = check
        # Counts become ranges and sizes: first of all they are checked against stored bytes.
        checked_hdf5.dataset(self.group, "pts", dtype="<f8", shape=(record.n_frames,))

    @property
    def record(self) -> VideoRecord:
        """The record, from the index or the group's attributes."""
        return self._record

    @functools.cached_property
    def pts(self) -> NDArray[np.float64]:
        """Time of each frame, float64 (n_frames,), seconds."""
        count = self._record.n_frames
        return checked_hdf5.read_proven(self.group, "pts", dtype="<f8", shape=(count,))

    def stored_clipped(self, name: str) -> NDArray[np.int32] | None:
        """Return the stored array of how many components of each pair the codec clipped, None without one."""
        stored = clipped_name(name, self.options)
        if stored is None:
            return None
        if stored not in self.group and checked_hdf5.read_number(self.group, f"{stored}_{CRC32}") is None:
            return None  # an earlier flowkit wrote it, or the numbers are not known
        count, most = self.extent.n_flow, 2 * self.extent.height * self.extent.width
        clipped = checked_hdf5.read_proven(self.group, stored, dtype="<i4", shape=(count,))
        if np.any((clipped < 0) | (clipped > most)):
            raise StoreCorruptError(
                f"{stored} of {self.extent.video_id!r} has a number that is not in [0, {most}]"
            )
        return clipped

    def count_stored(self, name: str) -> int:
        """Return the number of pairs of a flow field with stored bytes; too few after a write that failed."""
        return self.options.codec.storage.count_stored(self.group, name)

    def _frame_source(self) -> FieldSource:
        return _Hdf5Source(self.group, "frames", check=self._check)

    def _field_source(self, name: str) -> FieldSource:
        return _Hdf5Source(self.group, name, check=self._check)
