"""The checksum of all bytes of a file that lie outside the chunks of its videos, which have their own.

With it every byte of a file is under some checksum: attributes, tables, HDF5's structures and what is unused.
It stands in `/index/file_crc32`, which is left out of it, and holds while the file has the size that
the index notes; a file that another program has written anew (`h5repack`) has another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError
from flowkit.store import checked_hdf5
from flowkit.store.addresses import stored_ranges
from flowkit.store.codecs.deflate import crc32
from flowkit.store.hdf5_file import hdf5_writer
from flowkit.store.schema import FILE_BYTES, FILE_CRC32, INDEX, StoreOptions

FileState: TypeAlias = Literal["sound", "changed", "rewritten", "unknown"]
"""`changed`: bytes differ; `rewritten`: the file has another size; `unknown`: it has no such checksum."""

NO_CHUNKS: NDArray[np.int64] = np.zeros((0, 2), np.int64)
"""The ranges of a master."""

_DTYPE = np.dtype("<u4")
_READ_BYTES = 4 << 20


def reserve(file: h5py.File) -> None:
    """Make room for size and checksum in the index of a file that is being written."""
    index = file.require_group(INDEX)
    index.create_dataset(FILE_CRC32, data=np.zeros(1, _DTYPE))
    index.attrs.create(FILE_BYTES, 0, dtype="<i8")


def stamp(path: Path, ranges: NDArray[np.int64]) -> None:
    """Write size and checksum of a closed file into its index, which changes no size.

    Parameters
    ----------
    ranges
        Beginning and end of each stored chunk, int64 (n, 2).

    Raises
    ------
    StoreCorruptError
        The file changed its size.
    """
    size = os.path.getsize(path)
    with hdf5_writer(path, "r+") as file:
        file[INDEX].attrs.modify(FILE_BYTES, np.int64(size))
        at = _offset(file)
    if os.path.getsize(path) != size:
        raise StoreCorruptError(f"{path} changed its size while its index was finished")
    with path.open("r+b", buffering=0) as stream:
        value = _outside(stream, size, ranges, at)
        os.pwrite(stream.fileno(), np.array(value, _DTYPE).tobytes(), at)


def file_state(file: h5py.File, options: StoreOptions | None) -> FileState:
    """Return whether the bytes of an open file are those that were written.

    Parameters
    ----------
    options
        Options of the store; None for a master, which has no chunks.
    """
    if INDEX not in file or FILE_CRC32 not in checked_hdf5.group(file, INDEX):
        return "unknown"
    expected = checked_hdf5.read_array(file, f"{INDEX}/{FILE_CRC32}", dtype=_DTYPE.str, shape=(1,))
    with Path(file.filename).open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if checked_hdf5.read_number(checked_hdf5.group(file, INDEX), FILE_BYTES) != size:
            return "rewritten"
        ranges = NO_CHUNKS if options is None else stored_ranges(file, options)
        return "sound" if _outside(stream, size, ranges, _offset(file)) == expected[0] else "changed"


def _offset(file: h5py.File) -> int:
    """Return where the checksum stands in its file."""
    node = checked_hdf5.dataset(file, f"{INDEX}/{FILE_CRC32}", dtype=_DTYPE.str, shape=(1,))
    offset = node.id.get_offset()
    if offset is None:
        raise StoreCorruptError(f"{node.name} of {file.filename} has no address")
    return int(offset)


def _outside(stream: BinaryIO, size: int, ranges: NDArray[np.int64], own: int) -> int:
    """Return the CRC of the bytes outside `ranges` and of those of the checksum itself, at `own`."""
    value = 0
    for start, stop in _gaps(np.concatenate([ranges, [[own, own + _DTYPE.itemsize]]]), size):
        for at in range(start, stop, _READ_BYTES):
            value = crc32(os.pread(stream.fileno(), min(_READ_BYTES, stop - at), at), value)
    return value


def _gaps(ranges: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of what lies between ranges, from 0 to `size`, in order."""
    ordered = np.clip(ranges[np.argsort(ranges[:, 0], kind="stable")], 0, size)
    starts = np.concatenate([[0], np.maximum.accumulate(ordered[:, 1])])
    stops = np.concatenate([ordered[:, 0], [size]])
    wide = stops > starts
    yield from zip(starts[wide].tolist(), stops[wide].tolist(), strict=True)
