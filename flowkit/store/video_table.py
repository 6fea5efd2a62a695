"""The index of a file, `/index/videos`, read in blocks: of 200,000 videos it has 60 MB, few of them needed.

What each look-up needs (row, shard, counts, sizes) is kept, as compact arrays. The rest is read again when it
is asked for, a block at a time, and each block is compared with its checksum of the first reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import StoreCorruptError, StoreFormatError
from flowkit.store import checked_hdf5
from flowkit.store.codecs.deflate import crc32
from flowkit.store.index import TableSums, checked_table, with_columns
from flowkit.store.record import MAX_ID_BYTES, Columns, check_video_id
from flowkit.store.schema import INDEX_COLUMNS, INDEX_VIDEOS

KEPT = ("shard", "n_frames", "n_flow", "height", "width")
"""Columns that stay in memory, as far as they were asked for."""

_BLOCK_BYTES = 1 << 16
_READ_BLOCKS = 16
_SEPARATORS = (b"\0", b"/")
_BAD_SEGMENTS = (b"", b".", b"..")


class VideoTable:
    """The rows of `/index/videos`.

    Parameters
    ----------
    file
        An open file of a store.
    columns
        Those that are needed, with their types; "id" is among them.

    Attributes
    ----------
    rows : dict of str to int
        The row of each id, in their order.
    kept : dict of str to array
        The columns of `KEPT` that were asked for.

    Raises
    ------
    StoreFormatError
        The table is malformed, or has an impossible id or one id twice.
    StoreCorruptError
        Its bytes fail the CRC.
    """

    def __init__(self, file: h5py.File, columns: Columns = INDEX_COLUMNS) -> None:
        self._name = str(file.filename)
        self._columns = columns
        node, self._absent = checked_table(file, INDEX_VIDEOS, columns)
        self._block = max(1, _BLOCK_BYTES // node.dtype.itemsize)
        self._crcs: list[int] = []
        self._count = len(node)
        self._last: tuple[int, NDArray[np.void]] | None = None
        self.kept = {name: np.empty(self._count, node.dtype[name]) for name in KEPT if name in columns}
        ids: list[str] = []
        value, step = 0, _READ_BLOCKS * self._block
        for start in range(0, self._count, step):
            several = node[start : start + step]
            value = crc32(several.view(np.uint8).data, value)
            self._crcs += self._sums(several)
            for name, values in self.kept.items():
                values[start : start + len(several)] = several[name]
            ids += _checked_ids(several["id"].tolist(), node)
        checked_hdf5.check_plain_crc(node, value)
        self.rows = dict(zip(ids, range(self._count), strict=True))
        if len(self.rows) < self._count:
            raise StoreFormatError(f"the index of {self._name} has an id twice")

    def __len__(self) -> int:
        return self._count

    def row(self, file: h5py.File, number: int) -> np.void:
        """Return a row, of the file that this is the table of, opened in this process.

        Raises
        ------
        StoreCorruptError
            Its block is no longer what it was.
        """
        block = number // self._block
        last = self._last
        if last is None or last[0] != block:
            last = (block, self._read(file[INDEX_VIDEOS], block, 1))
            self._last = last
        row: np.void = last[1][number - block * self._block]
        return row

    def column(self, file: h5py.File, name: str) -> NDArray[np.generic]:
        """Return a column."""
        if name in self.kept:
            return self.kept[name]
        found = [block[name] for block in self.blocks(file)]
        return np.concatenate(found) if found else np.empty(0, file[INDEX_VIDEOS].dtype[name])

    def blocks(self, file: h5py.File) -> Iterator[NDArray[np.void]]:
        """Yield all rows, some thousands at a time."""
        node = file[INDEX_VIDEOS]
        for block in range(0, len(self._crcs), _READ_BLOCKS):
            yield self._read(node, block, _READ_BLOCKS)

    def _read(self, node: h5py.Dataset, block: int, count: int) -> NDArray[np.void]:
        """Return the rows of some blocks."""
        start = block * self._block
        values: NDArray[np.void] = node[start : min(start + count * self._block, self._count)]
        if self._sums(values) != self._crcs[block : block + count]:
            raise StoreCorruptError(f"the index of {self._name} has changed while it was open; open it again")
        return with_columns(values, self._absent) if self._absent else values

    def _sums(self, values: NDArray[np.void]) -> list[int]:
        """Return the CRC of each block of rows."""
        pieces = (values[k : k + self._block] for k in range(0, len(values), self._block))
        return [crc32(piece.view(np.uint8).data) for piece in pieces]

    def sums(self, file: h5py.File, *, without_shards: frozenset[int] = frozenset()) -> TableSums:
        """Return the fields of `StoreInfo` that are sums over the rows, those of some shards left out."""
        counted = {name: Counter[bytes]() for name in ("label", "status", "backend")}
        totals, largest = Counter[str](), 0.0
        absent = sorted(without_shards)
        for block in self.blocks(file):
            here = block[~np.isin(block["shard"], absent)] if absent else block
            totals["n_videos"] += len(here)
            for name in ("n_frames", "n_flow"):
                totals[name] += int(here[name].sum())
            for name, counts in counted.items():
                counts.update(here[name].tolist())
            largest = max(largest, float(here["flow_max_px"].max(initial=0.0)))
        shown = {
            name: {raw.decode(errors="replace"): count for raw, count in sorted(counts.items())}
            for name, counts in counted.items()
        }
        return {
            "n_videos": totals["n_videos"],
            "n_frames": totals["n_frames"],
            "n_flow": totals["n_flow"],
            "per_label": shown["label"],
            "per_status": shown["status"],
            "per_backend": shown["backend"],
            "flow_max_px": largest,
        }


def _checked_ids(raw: list[bytes], node: h5py.Dataset) -> list[str]:
    """Return ids as text; all are checked at once, which takes a tenth of the time of one by one."""
    joined = b"\0".join([b"", *raw, b""])
    bad = any(
        first + middle + last in joined
        for first in _SEPARATORS
        for middle in _BAD_SEGMENTS
        for last in _SEPARATORS
    )
    try:
        ids = joined.decode().split("\0")[1:-1]
        if bad or len(ids) != len(raw) or max(map(len, raw), default=0) > MAX_ID_BYTES:
            ids = [check_video_id(one.decode()) for one in raw]
    except ValueError as error:
        raise StoreFormatError(f"the index of {node.file.filename} has an impossible id: {error}") from error
    return ids
