"""Tables of a file: what was written comes back, and nothing else is taken for a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from flowkit.errors import StoreCorruptError, StoreFormatError
from flowkit.store.index import (
    NO_SHARD,
    all_rows,
    read_failures,
    read_index,
    read_labels,
    read_table,
    row_record,
    row_values,
    write_index,
    write_lists,
    write_table,
)
from flowkit.store.record import ADDED_ATTRIBUTES, Columns, Failure, Scalar
from flowkit.store.schema import INDEX_COLUMNS, INDEX_VIDEOS
from tests.make.stores import sum_table

from .conftest import make_record

COLUMNS: Columns = {"name": str, "count": int, "px": float}
ROWS: list[dict[str, Scalar]] = [
    {"name": "a", "count": 1, "px": 0.1},
    {"name": "日本/ü", "count": -(2**63), "px": -1e300},
    {"name": "", "count": 2**63 - 1, "px": 5e-324},
]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "x.h5", "w") as opened:
        yield opened


def test_rows_come_back_exactly(file: h5py.File) -> None:
    write_table(file, "t", COLUMNS, ROWS)
    table = read_table(file, "t", COLUMNS)
    assert list(all_rows(table, COLUMNS)) == ROWS
    assert [row_values(row, COLUMNS) for row in table] == ROWS


def test_columns_may_be_fewer_and_in_another_order(file: h5py.File) -> None:
    write_table(file, "t", COLUMNS, ROWS)
    some: Columns = {"px": float, "name": str}
    expected = [{"px": row["px"], "name": row["name"]} for row in ROWS]
    table = read_table(file, "t", some)
    assert list(all_rows(table, some)) == expected
    assert [row_values(row, some) for row in table] == expected


def test_text_has_the_longest_cells_length_and_lies_in_the_table(file: h5py.File) -> None:
    dataset = write_table(file, "t", COLUMNS, ROWS)
    assert dataset.dtype["name"].itemsize == len("日本/ü".encode())
    assert h5py.check_string_dtype(dataset.dtype["name"]) == ("utf-8", 9)
    assert dataset.chunks is None
    assert dataset.id.get_storage_size() == len(ROWS) * (9 + 8 + 8)


def test_a_table_without_rows_comes_back_empty(file: h5py.File) -> None:
    write_table(file, "t", COLUMNS, [])
    assert list(all_rows(read_table(file, "t", COLUMNS), COLUMNS)) == []


@pytest.mark.parametrize(
    ("types", "column"),
    [
        ([("name", "S3"), ("count", "<i8")], "'px' of type float"),
        ([("name", "S3"), ("count", "<i4"), ("px", "<f8")], "'count' of type int"),
        ([("name", "S3"), ("count", ">i8"), ("px", "<f8")], "'count' of type int"),
        ([("name", "S3"), ("count", "<i8"), ("px", "<f4")], "'px' of type float"),
        ([("name", "<i8"), ("count", "<i8"), ("px", "<f8")], "'name' of type str"),
        ([("name", h5py.string_dtype()), ("count", "<i8"), ("px", "<f8")], "'name' of type str"),
    ],
)
def test_a_column_that_is_missing_or_of_another_type_is_named(
    file: h5py.File, types: list[tuple[str, Any]], column: str
) -> None:
    file.create_dataset("t", (2,), np.dtype(types))
    with pytest.raises(StoreFormatError, match=f"/t of .*x.h5 has no column {column}"):
        read_table(file, "t", COLUMNS)


def test_what_is_no_table_has_no_column(file: h5py.File) -> None:
    file["t"] = np.arange(3)
    with pytest.raises(StoreFormatError, match="has no column 'name'"):
        read_table(file, "t", COLUMNS)
    file["grid"] = np.zeros((2, 2), [("name", "S3"), ("count", "<i8"), ("px", "<f8")])
    with pytest.raises(StoreFormatError, match=r"has shape \(2, 2\), expected \(None,\)"):
        read_table(file, "grid", COLUMNS)


def test_text_that_is_not_utf8_is_refused_both_ways(file: h5py.File) -> None:
    table = np.zeros(2, [("name", "S3"), ("count", "<i8"), ("px", "<f8")])
    table["name"][1] = b"a\xff"
    for read in (lambda: list(all_rows(table, COLUMNS)), lambda: row_values(table[1], COLUMNS)):
        with pytest.raises(StoreFormatError, match="text is not UTF-8"):
            read()
    assert row_values(table[0], COLUMNS)["name"] == ""


def test_records_come_back_in_order_with_their_shards(file: h5py.File) -> None:
    records = {
        "b/1": make_record("b/1", fps=30000 / 1001, start_seconds=0.25, status="truncated"),
        "a": make_record("a", n_frames=0, n_flow=0, device="ü", source_mtime_ns=-1),
    }
    write_index(file, records, {"b/1": 3})
    found, shards = read_index(file)
    assert found == records
    assert list(found) == ["b/1", "a"]
    assert shards == {"b/1": 3, "a": NO_SHARD}
    assert file[INDEX_VIDEOS]["path"].tolist() == [b"videos/b/1", b"videos/a"]
    table = read_table(file, INDEX_VIDEOS, INDEX_COLUMNS)
    assert [row_record(row) for row in table] == list(records.values())


def test_index_of_an_older_store_has_the_values_of_columns_added_since(file: h5py.File) -> None:
    records = {"a": make_record("a"), "b": make_record("b", label="Ü")}
    write_index(file, records, {})
    table = file[INDEX_VIDEOS][()]
    older = [name for name in table.dtype.names if name not in ADDED_ATTRIBUTES]
    del file[INDEX_VIDEOS]
    file[INDEX_VIDEOS] = table[older].astype([(name, table.dtype[name]) for name in older])
    assert len(file[INDEX_VIDEOS].dtype.names) == len(INDEX_COLUMNS) - len(ADDED_ATTRIBUTES)
    assert read_index(file)[0] == records
    found = read_table(file, INDEX_VIDEOS, INDEX_COLUMNS)
    assert [row_record(row) for row in found] == list(records.values())
    assert found["mirrored"].tolist() == [0, 0]


def changed(file: h5py.File, column: str, value: object) -> np.void:
    """Write the index of a and b, change the second row, and return it."""
    write_index(file, {name: make_record(name) for name in "ab"}, {})
    table = file[INDEX_VIDEOS][()]
    table[column][1] = value
    file[INDEX_VIDEOS][...] = table
    sum_table(file, INDEX_VIDEOS)
    row: np.void = table[1]
    return row


def test_an_id_twice_is_corrupt(file: h5py.File) -> None:
    changed(file, "id", b"a")
    with pytest.raises(StoreCorruptError, match=r"x\.h5 has 'a' twice"):
        read_index(file)


@pytest.mark.parametrize(
    ("column", "value"),
    [("id", b"/"), ("id", b""), ("width", 0), ("height", 65_536), ("n_flow", -1), ("status", b"fine")],
)
def test_a_row_out_of_range_is_refused_both_ways(file: h5py.File, column: str, value: object) -> None:
    row = changed(file, column, value)
    with pytest.raises(StoreFormatError, match="cannot be read"):
        read_index(file)
    with pytest.raises(StoreFormatError, match="cannot be read"):
        row_record(row)


def test_labels_and_failures_come_back_in_order(file: h5py.File) -> None:
    labels = ("b", "a", "日本")
    failures = (
        Failure(source="ü.avi", reason="unopenable", detail="two\nlines"),
        Failure(source="x", reason="too_short"),
    )
    write_lists(file, labels, failures)
    assert read_labels(file) == labels
    assert read_failures(file) == failures


def test_no_labels_and_no_failures_are_two_empty_tables(file: h5py.File) -> None:
    write_lists(file, [], [])
    assert (read_labels(file), read_failures(file)) == ((), ())
    assert sorted(file) == ["failures", "labels"]


def test_failures_of_an_older_store_have_no_id_and_no_times(file: h5py.File) -> None:
    columns: Columns = {"source": str, "reason": str, "detail": str}
    write_table(file, "failures", columns, [{"source": "a.mp4", "reason": "too_short", "detail": "1"}])
    assert read_failures(file) == (Failure(source="a.mp4", reason="too_short", detail="1"),)


def test_failures_come_back_with_id_and_times(file: h5py.File) -> None:
    failures = [
        Failure(source="a.mp4", reason="x", video_id="a_1_2", start_seconds=1.0, end_seconds=2.0),
        Failure(source="a.mp4", reason="x", video_id="a_2_end", start_seconds=2.0),
        Failure(source="b.mp4", reason="x"),
    ]
    write_lists(file, (), failures)
    assert read_failures(file) == tuple(failures)
    assert '"video_id"' not in failures[2].to_json()
