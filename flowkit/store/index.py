"""The index of a file of a store: one row a video, and where each stored piece lies.

It makes a look-up independent of the number of groups, and lets a reader fetch pieces without
HDF5. Addresses are advisory: they hold while the file has `file_bytes` bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError
from flowkit.store import guard
from flowkit.store.outfile import hdf5_writer
from flowkit.store.schema import (
    FAILURE_COLUMNS,
    FAILURES,
    FILE_BYTES,
    INDEX,
    INDEX_COLUMNS,
    INDEX_VIDEOS,
    LABEL_COLUMNS,
    LABELS,
    VIDEOS,
    Failure,
    StoreOptions,
    VideoRecord,
    field_names,
)
from flowkit.store.tables import all_rows, read_table, row_values, write_table

NO_SHARD = -1
"""Shard column of a file that is no master."""


def write_index(file: h5py.File, records: Mapping[str, VideoRecord], shards: Mapping[str, int]) -> None:
    """Write `/index/videos`: one row a video, in the order of `records`.

    Parameters
    ----------
    shards
        Number of each video's shard; ids without one get `NO_SHARD`.
    """
    rows = [
        {
            "id": video_id,
            "shard": shards.get(video_id, NO_SHARD),
            "path": f"{VIDEOS}/{video_id}",
            **record.to_attrs(),
        }
        for video_id, record in records.items()
    ]
    write_table(file.require_group(INDEX), "videos", INDEX_COLUMNS, rows)


def read_index(file: h5py.File) -> tuple[dict[str, VideoRecord], dict[str, int]]:
    """Return what `write_index` wrote: the records in order, and each video's shard.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The table is malformed, or an id twice in it or no id.
    """
    records: dict[str, VideoRecord] = {}
    shards: dict[str, int] = {}
    for values in all_rows(read_table(file, INDEX_VIDEOS, INDEX_COLUMNS), INDEX_COLUMNS):
        record = VideoRecord.from_attrs(values["id"], values)
        if record.video_id in records:
            raise StoreCorruptError(f"the index of {file.filename} has {record.video_id!r} twice")
        records[record.video_id] = record
        shards[record.video_id] = values["shard"]
    return records, shards


def row_record(row: Any) -> VideoRecord:
    """Return the record that a row of the index holds.

    Raises
    ------
    StoreFormatError
        It holds none that is possible.
    """
    values = row_values(row, INDEX_COLUMNS)
    return VideoRecord.from_attrs(values["id"], values)


def write_lists(file: h5py.File, labels: Sequence[str], failures: Sequence[Failure]) -> None:
    """Write the class names and the failures."""
    write_table(file, LABELS, LABEL_COLUMNS, [{"label": label} for label in labels])
    rows = [{name: getattr(failure, name) for name in FAILURE_COLUMNS} for failure in failures]
    write_table(file, FAILURES, FAILURE_COLUMNS, rows)


def read_labels(file: h5py.File) -> tuple[str, ...]:
    """Return the class names in order."""
    table = read_table(file, LABELS, LABEL_COLUMNS)
    return tuple(row["label"] for row in all_rows(table, LABEL_COLUMNS))


def read_failures(file: h5py.File) -> tuple[Failure, ...]:
    """Return what did not make it."""
    table = read_table(file, FAILURES, FAILURE_COLUMNS)
    return tuple(Failure(**row) for row in all_rows(table, FAILURE_COLUMNS))


def write_addresses(file: h5py.File, video_ids: Sequence[str], options: StoreOptions) -> None:
    """Write where each flow field and frame lies: byte offset in the file, and size.

    Arrays go over all videos in the order of `/index/videos`; codec `jpeg` has two entries a
    field, u and v.
    """
    index = file.require_group(INDEX)
    for name, (address, size) in _addresses(file, video_ids, options).items():
        index.create_dataset(f"{name}_addr", data=address)
        index.create_dataset(f"{name}_nbytes", data=size)
    index.attrs.create(FILE_BYTES, 0, dtype="<i8")


def wrong_addresses(file: h5py.File, video_ids: Sequence[str], options: StoreOptions) -> list[str]:
    """Return the names of the arrays that do not say where their pieces lie."""
    return [
        name
        for name, (address, size) in _addresses(file, video_ids, options).items()
        if not np.array_equal(_read(file, f"{name}_addr", "<i8"), address)
        or not np.array_equal(_read(file, f"{name}_nbytes", "<u4"), size)
    ]


def _read(file: h5py.File, name: str, dtype: str) -> NDArray[Any]:
    return guard.read_array(file, f"{INDEX}/{name}", dtype=dtype, shape=(None,))


def _addresses(
    file: h5py.File, video_ids: Sequence[str], options: StoreOptions
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.uint32]]]:
    groups = [guard.group(file, f"{VIDEOS}/{video_id}") for video_id in video_ids]
    sources = {name: name for name in field_names(options)}
    if options.frame_codec != "none":
        sources["frame"] = "frames"
    found = {}
    for name, dataset in sources.items():
        places = [_places(group, dataset) for group in groups] or [np.zeros((0, 2), np.int64)]
        joined = np.concatenate(places)
        found[name] = (joined[:, 0].astype("<i8"), joined[:, 1].astype("<u4"))
    return found


def stamp_file_bytes(path: Path) -> None:
    """Write the size of a closed file into its index, which does not change the size."""
    size = os.path.getsize(path)
    with hdf5_writer(path, "r+") as file:
        file[INDEX].attrs.modify(FILE_BYTES, np.int64(size))
    if os.path.getsize(path) != size:
        raise StoreCorruptError(f"{path} changed its size while its index was finished")


def _places(group: h5py.Group, name: str) -> NDArray[np.int64]:
    """Return offset and size of each piece of a field or of the frames, int64 (n, 2)."""
    if name in group and name != "frames":
        return _chunk_places(group[name])
    data = group[name if name == "frames" else f"{name}_jpeg"]
    offsets = group[f"{name}_offset"][()]
    start = data.id.get_offset() or 0
    return np.stack([start + offsets[:-1], np.diff(offsets)], axis=1).astype(np.int64)


def _chunk_places(dataset: h5py.Dataset) -> NDArray[np.int64]:
    places = np.zeros((len(dataset), 2), np.int64)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    dataset.id.chunk_iter(note)
    return places
