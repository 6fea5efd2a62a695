"""Addresses of the stored chunks of a file, as arrays of its index: enough to read it without HDF5.

For each flow field, and for `frame`, arrays over all videos in the order of `/index/videos`::

    /index/<name>_addr     int64: byte offset in the file
    /index/<name>_nbytes   uint32: size as stored
    /index/<name>_crc32    uint32: of the stored bytes
    /index/<name>_scale    float32: px a code (not for codecs with one scale, nor for frames)
    /index/rows_crc32      uint32, one a video: of its id and its slice of each array, in this order

A codec that stores u and v apart has two entries a field. All are contiguous, so that a reader
fetches just the slices of one video. They are advisory: they hold while the file has `file_bytes` bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.store import checked_hdf5
from flowkit.store.codecs.storage import FRAMES, Storage
from flowkit.store.schema import INDEX, VIDEOS, StoreOptions, field_names

FRAME = "frame"
ROWS_CRC = "rows_crc32"
DTYPES = {"addr": "<i8", "nbytes": "<u4", "crc32": "<u4", "scale": "<f4"}


def address_names(options: StoreOptions) -> dict[str, tuple[str, ...]]:
    """Return the kinds of arrays of each flow field and of `frame`."""
    names = dict.fromkeys(field_names(options), options.codec.storage.index_arrays)
    if options.frame_codec != "none":
        names[FRAME] = FRAMES.index_arrays
    return names


def storage_of(name: str, options: StoreOptions) -> Storage:
    """Return the storage of a flow field, or of `frame`."""
    return FRAMES if name == FRAME else options.codec.storage


def row_crc(video_id: str, slices: Iterable[NDArray[np.number]]) -> int:
    """Return the checksum of one video's slices of the arrays, in the order of `address_names`."""
    value = zlib.crc32(video_id.encode())
    for values in slices:
        value = zlib.crc32(values.tobytes(), value)
    return value


def write_addresses(file: h5py.File, video_ids: Sequence[str], options: StoreOptions) -> NDArray[np.int64]:
    """Write address, size and checksum of each chunk of a file into its index.

    Returns
    -------
    int64 array (n, 2)
        Beginning and end of each chunk.
    """
    index = file.require_group(INDEX)
    arrays = _gathered(file, video_ids, options)
    for name, values in arrays.items():
        index.create_dataset(name, data=values)
    return _ranges(arrays, options)


def stored_ranges(file: h5py.File, options: StoreOptions) -> NDArray[np.int64]:
    """Return beginning and end of each chunk of a file, int64 (n, 2), as its index has them."""
    arrays = {
        f"{name}_{kind}": checked_hdf5.read_array(
            file, f"{INDEX}/{name}_{kind}", dtype=DTYPES[kind], shape=(None,)
        )
        for name in address_names(options)
        for kind in ("addr", "nbytes")
    }
    return _ranges(arrays, options)


def wrong_addresses(file: h5py.File, video_ids: Sequence[str], options: StoreOptions) -> list[str]:
    """Return the names of the arrays that differ from the videos' groups."""
    return [
        name
        for name, values in _gathered(file, video_ids, options).items()
        if not np.array_equal(
            checked_hdf5.read_array(file, f"{INDEX}/{name}", dtype=values.dtype.str, shape=(None,)), values
        )
    ]


def _gathered(
    file: h5py.File, video_ids: Sequence[str], options: StoreOptions
) -> dict[str, NDArray[np.number]]:
    """Return all arrays of a file, from the groups of its videos."""
    names = address_names(options)
    arrays = {f"{name}_{kind}": kind for name, kinds in names.items() for kind in kinds}
    rows = []
    for video_id in video_ids:
        with checked_hdf5.contained(f"video {video_id!r}"):  # a copy has the damage of its source
            group = checked_hdf5.group(file, f"{VIDEOS}/{video_id}")
            rows.append({k: v for name in names for k, v in _video_addresses(group, name, options).items()})
    joined = {
        name: np.concatenate([row[name] for row in rows] or [np.zeros(0)]).astype(DTYPES[kind])
        for name, kind in arrays.items()
    }
    crcs = [row_crc(k, (row[name] for name in arrays)) for k, row in zip(video_ids, rows, strict=True)]
    return {**joined, ROWS_CRC: np.array(crcs, "<u4")}


def _video_addresses(group: h5py.Group, name: str, options: StoreOptions) -> dict[str, NDArray[np.number]]:
    found = storage_of(name, options).addresses(group, "frames" if name == FRAME else name)
    return {f"{name}_{kind}": values.astype(DTYPES[kind]) for kind, values in found.items()}


def _ranges(arrays: Mapping[str, NDArray[np.number]], options: StoreOptions) -> NDArray[np.int64]:
    starts = [arrays[f"{name}_addr"] for name in address_names(options)]
    sizes = [arrays[f"{name}_nbytes"] for name in address_names(options)]
    start = np.concatenate(starts).astype(np.int64)
    return np.stack([start, start + np.concatenate(sizes)], axis=1)
