"""Addresses of the stored chunks of a file, as arrays of its index: enough to read it without HDF5.

For each flow field, and for `frame`, arrays over all videos in the order of `/index/videos`::

    /index/<name>_addr     int64: byte offset in the file
    /index/<name>_nbytes   uint32: size as stored
    /index/<name>_crc32    uint32: of the stored bytes
    /index/<name>_scale    float32: px a code (not for codecs with one scale, nor for frames)
    /index/rows_crc32      uint32, one a video: of its id and its slice of each array, in this order; its bits
                           inverted where an array of the video failed a checksum when the index was made

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
from flowkit.store.hdf5_file import uninterrupted
from flowkit.store.record import VideoRecord
from flowkit.store.schema import INDEX, VIDEOS, StoreOptions, field_names

FRAME = "frame"
ROWS_CRC = "rows_crc32"
_ALL_BITS = 0xFFFFFFFF
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
    with uninterrupted():
        index = file.require_group(INDEX)
    arrays = _gathered(file, video_ids, options)
    for name, values in arrays.items():
        with uninterrupted():
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


def stored_slices(file: h5py.File, video_id: str, options: StoreOptions) -> dict[str, NDArray[np.number]]:
    """Return a video's slice of each array of the index, as its group has it, and its `ROWS_CRC`, (1,)."""
    with uninterrupted(), checked_hdf5.contained(f"video {video_id!r}"):
        stored = checked_hdf5.VideoArrays(checked_hdf5.group(file, f"{VIDEOS}/{video_id}"))
        found = {
            f"{name}_{kind}": values.astype(DTYPES[kind])
            for name in address_names(options)
            for kind, values in storage_of(name, options).addresses(stored, _group_name(name)).items()
        }
        crc32 = row_crc(video_id, found.values())
        # A copy has the damage of its source, and must not look sound by checksums of its own.
        holds = stored.proofs_hold()
    return {**found, ROWS_CRC: np.array([crc32 if holds else crc32 ^ _ALL_BITS], "<u4")}


def index_arrays(
    file: h5py.File, records: Sequence[VideoRecord], options: StoreOptions
) -> dict[str, NDArray[np.number]]:
    """Return all arrays of the index of a file.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        One is absent, of another type, or of another length than the records say.
    """
    counts = {
        f"{name}_{kind}": (kind, int(ends[-1]) if len(ends) else 0)
        for name, ends in _ends(records, options).items()
        for kind in address_names(options)[name]
    }
    arrays = {
        name: checked_hdf5.read_array(file, f"{INDEX}/{name}", dtype=DTYPES[kind], shape=(count,))
        for name, (kind, count) in counts.items()
    }
    rows = checked_hdf5.read_array(file, f"{INDEX}/{ROWS_CRC}", dtype="<u4", shape=(len(records),))
    return {**arrays, ROWS_CRC: rows}


def index_slices(
    arrays: Mapping[str, NDArray[np.number]], records: Sequence[VideoRecord], options: StoreOptions
) -> list[dict[str, NDArray[np.number]]]:
    """Return each video's slice of each of `index_arrays`, as `stored_slices` has them."""
    slices: list[dict[str, NDArray[np.number]]] = [{} for _ in records]
    for name, ends in _ends(records, options).items():
        starts = [0, *ends.tolist()]
        for kind in address_names(options)[name]:
            values = arrays[f"{name}_{kind}"]
            for k, own in enumerate(slices):
                own[f"{name}_{kind}"] = values[starts[k] : starts[k + 1]]
    for k, own in enumerate(slices):
        own[ROWS_CRC] = arrays[ROWS_CRC][k : k + 1]
    return slices


def _ends(records: Sequence[VideoRecord], options: StoreOptions) -> dict[str, NDArray[np.int64]]:
    """Return where each video's slices end, of each field and of `frame`."""
    n_frames = np.cumsum([one.n_frames for one in records], dtype=np.int64)
    n_flow = np.cumsum([one.n_flow for one in records], dtype=np.int64)
    return {
        name: storage_of(name, options).chunks_per_item * (n_frames if name == FRAME else n_flow)
        for name in address_names(options)
    }


def _gathered(
    file: h5py.File, video_ids: Sequence[str], options: StoreOptions
) -> dict[str, NDArray[np.number]]:
    """Return all arrays of a file, from the groups of its videos."""
    rows = [stored_slices(file, video_id, options) for video_id in video_ids]
    kinds = {f"{name}_{kind}": DTYPES[kind] for name, each in address_names(options).items() for kind in each}
    return {
        name: np.concatenate([row[name] for row in rows] or [np.zeros(0)]).astype(dtype)
        for name, dtype in (*kinds.items(), (ROWS_CRC, "<u4"))
    }


def _group_name(name: str) -> str:
    return "frames" if name == FRAME else name


def _ranges(arrays: Mapping[str, NDArray[np.number]], options: StoreOptions) -> NDArray[np.int64]:
    starts = [arrays[f"{name}_addr"] for name in address_names(options)]
    sizes = [arrays[f"{name}_nbytes"] for name in address_names(options)]
    start = np.concatenate(starts).astype(np.int64)
    return np.stack([start, start + np.concatenate(sizes)], axis=1)
