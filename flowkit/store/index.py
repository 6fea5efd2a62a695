"""The tables of a file of a store: one row a video, the class names, the failures.

They make a look-up independent of the number of groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py

from flowkit.errors import StoreCorruptError
from flowkit.store.schema import (
    FAILURE_COLUMNS,
    FAILURES,
    INDEX,
    INDEX_COLUMNS,
    INDEX_VIDEOS,
    LABEL_COLUMNS,
    LABELS,
    VIDEOS,
    Failure,
    VideoRecord,
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
