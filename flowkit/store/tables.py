"""Tables of a store: compound datasets whose text has a fixed length, the longest's.

Variable-length text would need one heap look-up a cell and may be shared by cells, so that a
small hostile file could unfold to any size; so a table is as large as it says, and 200,000 rows
are read at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreFormatError
from flowkit.store import checked_hdf5
from flowkit.store.schema import Columns, Scalar

_NUMBERS = {int: "<i8", float: "<f8"}


def write_table(
    parent: h5py.Group, name: str, columns: Columns, rows: Sequence[Mapping[str, Scalar]]
) -> h5py.Dataset:
    """Write rows as the compound dataset `name`: contiguous, text as padded UTF-8."""
    encoded = [[_encoded(row[column]) for column in columns] for row in rows]
    types = [
        (column, _NUMBERS[kind] if kind is not str else _text_type(row[k] for row in encoded))
        for k, (column, kind) in enumerate(columns.items())
    ]
    return parent.create_dataset(name, data=np.array([tuple(row) for row in encoded], dtype=np.dtype(types)))


def read_table(parent: h5py.Group, name: str, columns: Columns) -> NDArray[Any]:
    """Return a table as a structured array; text columns are bytes.

    Raises
    ------
    StoreFormatError
        A column is missing or of another type.
    """
    node = checked_hdf5.dataset(parent, name, dtype=None, shape=(None,))
    names = node.dtype.names or ()
    for column, kind in columns.items():
        fits = column in names and (
            node.dtype[column].kind == "S" if kind is str else node.dtype[column] == _NUMBERS[kind]
        )
        if not fits:
            raise StoreFormatError(
                f"{node.name} of {parent.file.filename} has no column {column!r} of type {kind.__name__}"
            )
    table: NDArray[Any] = node[()]
    return table


def all_rows(table: NDArray[Any], columns: Columns) -> Iterator[dict[str, Any]]:
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


def row_values(row: Any, columns: Columns) -> dict[str, Any]:
    """Return one row of a table as Python values.

    Raises
    ------
    StoreFormatError
        A text is not UTF-8.
    """
    values = dict(zip(row.dtype.names, row.item(), strict=True))  # all at once: many times faster
    try:
        return {
            column: values[column].decode() if kind is str else values[column]
            for column, kind in columns.items()
        }
    except UnicodeDecodeError as error:
        raise StoreFormatError(f"a table's text is not UTF-8: {error}") from error


def _encoded(value: Scalar) -> bytes | int | float:
    return value.encode() if isinstance(value, str) else value


def _text_type(cells: Iterable[Any]) -> np.dtype[Any]:
    width = max((len(cell) for cell in cells), default=0)
    return h5py.string_dtype("utf-8", max(1, width))  # type: ignore[no-any-return]
