"""The tables of a file of a store: one row a video, the class names, the failures; and their sums.

They make a look-up independent of the number of groups. A table is a compound dataset whose text has
a fixed length, the longest's: variable-length text would need one heap look-up a cell, and cells may
point to one text, so that a small hostile file could unfold to any size. So a table is no larger than
its bytes, and 200,000 rows are read at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError, StoreFormatError
from flowkit.store import checked_hdf5
from flowkit.store.codecs.deflate import crc32
from flowkit.store.hdf5_file import write_attrs
from flowkit.store.record import (
    ADDED_ATTRIBUTES,
    RECORD_TYPES,
    Attributes,
    Columns,
    Failure,
    Scalar,
    VideoRecord,
)
from flowkit.store.schema import (
    CRC32,
    FAILURE_COLUMNS,
    FAILURES,
    INDEX,
    INDEX_COLUMNS,
    INDEX_VIDEOS,
    LABEL_COLUMNS,
    LABELS,
    VIDEOS,
    StoreOptions,
)

NO_SHARD = -1
"""Shard number in the index of a file that is no master."""

_NUMBERS = {int: "<i8", float: "<f8"}
# Columns that the failures of an earlier flowkit's stores lack, with the value that then holds.
_ADDED_FAILURE_COLUMNS: Attributes = {"video_id": "", "start_seconds": math.nan, "end_seconds": math.nan}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreInfo:
    """Summary of a store: options, counts, sizes.

    Attributes
    ----------
    path : str
        The store's file.
    format_version, flowkit_version : str
        Of the format, and of the flowkit that wrote the file.
    uuid, created : str
        Id of the file, and the time of its making, ISO 8601 in UTC.
    options : StoreOptions
        Options of every file of the store.
    n_videos, n_frames : int
        Counts over all videos.
    n_flow : int
        Flow fields of each kind.
    n_failures : int
        Sources in the ledger of failures.
    bytes : int
        Size of all its files.
    shards, missing_shards : tuple of str
        File names of its shards, and of those that are not there.
    per_label, per_status, per_backend : mapping of str to int
        Number of videos of each label, status and backend.
    flow_max_px : float
        Largest absolute flow component before quantisation, px per frame step.
    """

    path: str
    format_version: str
    flowkit_version: str
    uuid: str
    created: str
    options: StoreOptions
    n_videos: int
    n_frames: int
    n_flow: int
    n_failures: int
    bytes: int
    shards: tuple[str, ...]
    missing_shards: tuple[str, ...]
    per_label: Mapping[str, int]
    per_status: Mapping[str, int]
    per_backend: Mapping[str, int]
    flow_max_px: float


class TableSums(TypedDict):
    """The fields of `StoreInfo` that are sums over the rows of the index."""

    n_videos: int
    n_frames: int
    n_flow: int
    per_label: Mapping[str, int]
    per_status: Mapping[str, int]
    per_backend: Mapping[str, int]
    flow_max_px: float


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
    """Read `/index/videos`: the records in order, and each video's shard.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The table is malformed, or an id twice in it or no id.
    """
    table = read_table(file, INDEX_VIDEOS, INDEX_COLUMNS)
    ids = [values["id"] for values in all_rows(table, {"id": str})]
    # Without the columns besides the record's, whose values need no other form: in half of the time.
    rows = all_rows(table, RECORD_TYPES)
    records = {k: VideoRecord.of_values(k, values) for k, values in zip(ids, rows, strict=True)}
    if len(records) < len(ids):
        twice = next(k for k, count in Counter(ids).items() if count > 1)
        raise StoreCorruptError(f"the index of {file.filename} has {twice!r} twice")
    return records, dict(zip(ids, table["shard"].tolist(), strict=True))


def row_record(row: np.void) -> VideoRecord:
    """Return the record that a row of the index holds.

    Raises
    ------
    StoreFormatError
        A value is out of range or of another type.
    """
    values = row_values(row, INDEX_COLUMNS)
    return VideoRecord.from_attrs(values["id"], values)


def write_lists(file: h5py.File, labels: Sequence[str], failures: Sequence[Failure]) -> None:
    """Write the class names and the failures."""
    write_table(file, LABELS, LABEL_COLUMNS, [{"label": label} for label in labels])
    rows = [{name: _cell(getattr(failure, name)) for name in FAILURE_COLUMNS} for failure in failures]
    write_table(file, FAILURES, FAILURE_COLUMNS, rows)


def read_labels(file: h5py.File) -> tuple[str, ...]:
    """Return the class names in order."""
    table = read_table(file, LABELS, LABEL_COLUMNS)
    try:
        return tuple(cell.decode() for cell in table["label"].tolist())
    except UnicodeDecodeError as error:
        raise StoreFormatError(f"a class name of {file.filename} is not UTF-8: {error}") from error


def read_failures(file: h5py.File) -> tuple[Failure, ...]:
    """Return the failures."""
    table = read_table(file, FAILURES, FAILURE_COLUMNS, added=_ADDED_FAILURE_COLUMNS)
    return tuple(Failure(**row) for row in all_rows(table, FAILURE_COLUMNS))


def write_table(
    parent: h5py.Group, name: str, columns: Columns, rows: Sequence[Mapping[str, Scalar]]
) -> h5py.Dataset:
    """Write rows as the compound dataset `name`: contiguous, text as padded UTF-8; with its CRC."""
    encoded = [[_encoded(row[column]) for column in columns] for row in rows]
    types = [
        (column, _NUMBERS[kind] if kind is not str else _text_type(row[k] for row in encoded))
        for k, (column, kind) in enumerate(columns.items())
    ]
    table = np.array([tuple(row) for row in encoded], dtype=np.dtype(types))
    made = parent.create_dataset(name, data=table)
    write_attrs(made, {CRC32: crc32(table.tobytes())})
    return made


def checked_table(
    parent: h5py.Group, name: str, columns: Columns, *, added: Attributes = ADDED_ATTRIBUTES
) -> tuple[h5py.Dataset, Attributes]:
    """Return a table with its columns checked, and those that a store of an earlier flowkit lacks.

    A column of `added` came to the format later: where it is not there, it has its value for older stores.

    Raises
    ------
    StoreFormatError
        A column is missing or of another type, or the table is stored in chunks.
    """
    node = checked_hdf5.dataset(parent, name, dtype=None, shape=(None,))
    checked_hdf5.check_plain(node)
    names = node.dtype.names or ()
    absent = {column: added[column] for column in columns if column in added and column not in names}
    for column, kind in columns.items():
        if column in absent:
            continue
        fits = column in names and (
            node.dtype[column].kind == "S" if kind is str else node.dtype[column] == _NUMBERS[kind]
        )
        if not fits:
            raise StoreFormatError(
                f"{node.name} of {parent.file.filename} has no column {column!r} of type {kind.__name__}"
            )
    return node, absent


def read_table(
    parent: h5py.Group, name: str, columns: Columns, *, added: Attributes = ADDED_ATTRIBUTES
) -> NDArray[np.void]:
    """Return a table as a structured array; text columns are bytes.

    Parameters
    ----------
    added
        As of `checked_table`.

    Raises
    ------
    StoreFormatError
        As `checked_table`.
    StoreCorruptError
        Its bytes fail the CRC, which tables of format 1.1 have.
    """
    node, absent = checked_table(parent, name, columns, added=added)
    table: NDArray[np.void] = checked_hdf5.read_plain(node)
    return with_columns(table, absent) if absent else table


def all_rows(table: NDArray[np.void], columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as Python values, faster than `row_values` of each.

    Raises
    ------
    StoreFormatError
        A text is not UTF-8.
    """
    try:
        lists = [
            [cell.decode() for cell in table[column].tolist()] if kind is str else table[column].tolist()
            for column, kind in columns.items()
        ]
    except UnicodeDecodeError as error:
        raise StoreFormatError(f"a table's text is not UTF-8: {error}") from error
    for values in zip(*lists, strict=True):
        yield dict(zip(columns, values, strict=True))


def row_values(row: np.void, columns: Columns) -> dict[str, Any]:
    """Return one row of a table as Python values.

    Raises
    ------
    StoreFormatError
        A text is not UTF-8.
    """
    values = dict(zip(row.dtype.names or (), row.item(), strict=True))  # all at once: many times faster
    try:
        return {
            column: values[column].decode() if kind is str else values[column]
            for column, kind in columns.items()
        }
    except UnicodeDecodeError as error:
        raise StoreFormatError(f"a table's text is not UTF-8: {error}") from error


def with_columns(table: NDArray[np.void], values: Attributes) -> NDArray[np.void]:
    """Return a copy of a table with columns of one value each behind its own."""
    own = table.dtype.names or ()
    types = [(name, table.dtype[name]) for name in own]
    types += [
        (name, np.dtype("S1" if isinstance(value, str) else _NUMBERS[type(value)]))
        for name, value in values.items()
    ]
    wide = np.empty(len(table), dtype=np.dtype(types))
    for name in own:
        wide[name] = table[name]
    for name, value in values.items():
        wide[name] = _encoded(value)
    return wide


def _cell(value: Scalar | None) -> Scalar:
    """Return a value as a table has it: NaN for a time that is not given."""
    return math.nan if value is None else value


def _encoded(value: Scalar) -> bytes | int | float:
    return value.encode() if isinstance(value, str) else value


def _text_type(cells: Iterable[bytes | int | float]) -> np.dtype[np.bytes_]:
    width = max((len(cell) for cell in cells if isinstance(cell, bytes)), default=0)
    return h5py.string_dtype("utf-8", max(1, width))  # type: ignore[no-any-return]
