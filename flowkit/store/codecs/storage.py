"""The two ways to store byte strings in HDF5, and their arrays in the index.

`ChunkStorage`  one deflated chunk a field: what plain h5py reads as one array of codes.
`FlatStorage`   byte strings end to end, with offsets: JPEGs, of flow or of frames.

Nothing here imports h5py: groups are arguments, and readers implement `FieldSource`.
"""

from __future__ import annotations

import abc
import array
import dataclasses
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flowkit.store.codecs.deflate import DEFLATE_LEVEL

if TYPE_CHECKING:
    import h5py

SPOOL_BYTES = 8 << 20
COPY_BYTES = 4 << 20
GROWTH = 64
"""Entries by which a dataset of unknown length grows at once; what is too much is cut off at its end."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EncodedFlow:
    """One flow field, ready to be stored."""

    codec: str
    """Name of the codec that encoded it."""
    chunks: tuple[bytes, ...]
    """The byte strings that are stored: one, or one for each of u and v."""
    crcs: tuple[int, ...]
    """CRC-32 of each."""
    scale: float
    """px a code."""
    max_px: float
    """Largest absolute component before quantisation, px."""
    clipped: int | None
    """Components that the codec clipped; None where it is not known."""


class Chunks(Protocol):
    """Stored byte strings of a flow field or of the frames, in order: HDF5 chunks, or JPEGs."""

    crcs: NDArray[np.uint32]

    def __getitem__(self, index: int) -> bytes:
        """Return one, its CRC checked."""

    def each(self, indices: Sequence[int]) -> Iterator[bytes | memoryview]:
        """Yield several in the order given, the CRC of each checked."""


class FieldSource(Protocol):
    """One flow field of a video, or its frames, as a reader has it."""

    def dataset_chunks(self, dtype: np.dtype[np.number], shape: tuple[int, ...]) -> Chunks:
        """Return the chunks of a dataset of this type and shape, one chunk an entry."""

    def flat_chunks(self, suffix: str, count: int, raw_bytes: int) -> Chunks:
        """Return `count` byte strings stored end to end, each of `raw_bytes` bytes before encoding."""

    def scales(self, count: int) -> NDArray[np.float32]:
        """Return the scale of each of `count` fields."""


class StoredArrays(Protocol):
    """Reads the datasets of a video's group."""

    def values(self, name: str) -> NDArray[Any]:
        """Return the values of a dataset that is small."""

    def node(self, name: str) -> Any:
        """Return h5py's DatasetID of a dataset."""


class VideoGroup(Protocol):
    """A video's group in which datasets are created; see `flowkit.store.hdf5_file.DatasetCreator`."""

    group: h5py.Group

    def array(
        self, name: str, values: NDArray[np.number], *, chunk: int | None = None, fill: float | None = None
    ) -> Any:
        """Write a 1-D dataset."""

    def stack(
        self,
        name: str,
        item_shape: tuple[int, ...],
        dtype: np.dtype[np.number],
        *,
        deflate_level: int,
        shuffled: bool,
        fill: float | None,
    ) -> Any:
        """Create an empty dataset (0, *item_shape), each item a deflated chunk; return h5py's DatasetID."""


class Opened(NamedTuple):
    """The chunks and scales of a flow field."""

    chunks: Chunks
    scales: NDArray[np.float32] | None
    """float32 (n,), px a code; None where none are stored."""


class Array(NamedTuple):
    """A 1-D array beside the byte strings."""

    values: NDArray[np.number]
    fill: float | None = None
    """A value that none of it has."""


class ItemWriter(Protocol):
    """Writes the byte strings of a field, or of the frames, item by item."""

    @property
    def count(self) -> int:
        """Number of items added so far."""

    def add(self, chunks: tuple[bytes, ...], crcs: tuple[int, ...], scale: float) -> None:
        """Append the chunks of one item."""

    def finish(self) -> dict[str, Array]:
        """Write the dataset of all items; return the arrays that belong to it, by name."""

    def close(self) -> None:
        """Free spools, finished or not."""


class Storage(abc.ABC):
    """A way to store the byte strings of an item (a flow field, a frame) in HDF5."""

    __slots__ = ()

    chunks_per_item: int
    deflated: bool
    """True if reading inflates."""
    fill: float | None
    """A code that no field has: it marks a missing chunk. None where none can be missing."""
    index_arrays: tuple[str, ...]
    """Kinds of the arrays in the index; see `flowkit.store.addresses`."""

    @abc.abstractmethod
    def create(self, group: VideoGroup, name: str, *, size: tuple[int, int], folder: Path) -> ItemWriter:
        """Create the datasets of items of (height, width) in a video's group; `folder` is for spools."""

    @abc.abstractmethod
    def open(self, source: FieldSource, *, count: int, size: tuple[int, int]) -> Opened:
        """Return the chunks of `count` items of (height, width)."""

    @abc.abstractmethod
    def addresses(self, stored: StoredArrays, name: str) -> dict[str, NDArray[np.number]]:
        """Return the arrays of `index_arrays` for the items in a video's group."""

    @abc.abstractmethod
    def count_stored(self, group: h5py.Group, name: str) -> int:
        """Return the number of items with stored bytes; too few after a write that failed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ChunkStorage(Storage):
    """One deflated chunk a field, with its scale: `<name>`, `<name>_scale` and `<name>_crc32`.

    Parameters
    ----------
    dtype
        Of the codes.
    shuffled
        Whether the bytes are shuffled before they are deflated.
    fill
        A code that no field has.
    """

    dtype: np.dtype[np.number]
    shuffled: bool
    fill: float | None
    chunks_per_item: int = dataclasses.field(default=1, init=False)
    deflated: bool = dataclasses.field(default=True, init=False)
    index_arrays: tuple[str, ...] = dataclasses.field(
        default=("addr", "nbytes", "crc32", "scale"), init=False
    )

    def create(self, group: VideoGroup, name: str, *, size: tuple[int, int], folder: Path) -> ItemWriter:
        """Create the datasets; chunks go straight into the file."""
        shape = (2, *size)
        dataset = group.stack(
            name, shape, self.dtype, deflate_level=DEFLATE_LEVEL, shuffled=self.shuffled, fill=self.fill
        )
        return _ChunkWriter(name, shape, dataset)

    def open(self, source: FieldSource, *, count: int, size: tuple[int, int]) -> Opened:
        """Return the chunks and the scales of a field."""
        return Opened(source.dataset_chunks(self.dtype, (count, 2, *size)), source.scales(count))

    def addresses(self, stored: StoredArrays, name: str) -> dict[str, NDArray[np.number]]:
        """Return address, size, checksum and scale of each chunk."""
        node = stored.node(name)
        found = np.zeros((node.shape[0], 2), np.int64)

        def note(chunk: Any) -> None:
            found[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

        node.chunk_iter(note)
        return {
            "addr": found[:, 0],
            "nbytes": found[:, 1],
            "crc32": stored.values(f"{name}_crc32"),
            "scale": stored.values(f"{name}_scale"),
        }

    def count_stored(self, group: h5py.Group, name: str) -> int:
        """Return the number of chunks."""
        return int(group[name].id.get_num_chunks())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlatStorage(Storage):
    """Byte strings end to end: `<name><suffix>`, with `<name>_offset` and `<name>_crc32`.

    Parameters
    ----------
    suffix
        Of the name of the dataset with the bytes.
    chunks_per_item
        How many strings make one item.
    bytes_a_pixel
        Of the image that one string encodes.
    """

    suffix: str
    chunks_per_item: int
    bytes_a_pixel: int
    deflated: bool = dataclasses.field(default=False, init=False)
    fill: float | None = dataclasses.field(default=None, init=False)
    index_arrays: tuple[str, ...] = dataclasses.field(default=("addr", "nbytes", "crc32"), init=False)

    def create(self, group: VideoGroup, name: str, *, size: tuple[int, int], folder: Path) -> ItemWriter:
        """Open a spool in `folder`; the datasets are written at the end."""
        return _FlatWriter(group, name, self, folder)

    def open(self, source: FieldSource, *, count: int, size: tuple[int, int]) -> Opened:
        """Return the byte strings."""
        raw_bytes = self.bytes_a_pixel * size[0] * size[1]
        return Opened(source.flat_chunks(self.suffix, self.chunks_per_item * count, raw_bytes), None)

    def addresses(self, stored: StoredArrays, name: str) -> dict[str, NDArray[np.number]]:
        """Return address, size and checksum of each byte string."""
        offsets = stored.values(f"{name}_offset")
        start = stored.node(f"{name}{self.suffix}").get_offset() or 0
        return {
            "addr": start + offsets[:-1],
            "nbytes": np.diff(offsets),
            "crc32": stored.values(f"{name}_crc32"),
        }

    def count_stored(self, group: h5py.Group, name: str) -> int:
        """Return the number of whole items that the offsets delimit."""
        return (len(group[f"{name}_offset"]) - 1) // self.chunks_per_item


FRAMES = FlatStorage(suffix="", chunks_per_item=1, bytes_a_pixel=3)
"""Storage of a video's RGB frames, one JPEG each."""


class _ChunkWriter:
    """Appends chunks to a dataset that grows, h5py's DatasetID."""

    def __init__(self, name: str, item_shape: tuple[int, ...], dataset: Any) -> None:
        self._name, self._item_shape, self._dataset = name, item_shape, dataset
        self._room = 0
        self._scales = array.array("f")
        self._crcs = array.array("I")

    @property
    def count(self) -> int:
        return len(self._crcs)

    def add(self, chunks: tuple[bytes, ...], crcs: tuple[int, ...], scale: float) -> None:
        (chunk,), (crc32,), index = chunks, crcs, self.count
        if index == self._room:
            self._room += GROWTH
            self._dataset.set_extent((self._room, *self._item_shape))
        self._dataset.write_direct_chunk((index, 0, 0, 0), chunk)
        self._scales.append(scale)
        self._crcs.append(crc32)

    def finish(self) -> dict[str, Array]:
        name = self._name
        self._dataset.set_extent((self.count, *self._item_shape))
        return {
            f"{name}_scale": Array(np.array(self._scales, "<f4"), fill=np.nan),
            f"{name}_crc32": Array(np.array(self._crcs, "<u4")),
        }

    def close(self) -> None:
        return


class _FlatWriter:
    """Spools byte strings, in memory while few, then in a file, and writes them at the end."""

    def __init__(self, group: VideoGroup, name: str, storage: FlatStorage, folder: Path) -> None:
        self._group, self._name, self._storage = group, name, storage
        # A file without a name: whatever kills the process, nothing of it is left.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES, dir=str(folder))
        self._offsets = array.array("q", [0])
        self._crcs = array.array("I")

    @property
    def count(self) -> int:
        return len(self._crcs) // self._storage.chunks_per_item

    def add(self, chunks: tuple[bytes, ...], crcs: tuple[int, ...], scale: float) -> None:
        for chunk, crc32 in zip(chunks, crcs, strict=True):
            self._file.write(chunk)
            self._offsets.append(self._offsets[-1] + len(chunk))
            self._crcs.append(crc32)

    def finish(self) -> dict[str, Array]:
        name, size = self._name, self._offsets[-1]
        path = f"{name}{self._storage.suffix}"
        self._file.seek(0)
        if size <= COPY_BYTES:
            self._group.array(path, np.frombuffer(self._file.read(), np.uint8))
        else:
            dataset, start = self._group.group.create_dataset(path, shape=(size,), dtype=np.uint8), 0
            while block := self._file.read(COPY_BYTES):
                dataset[start : start + len(block)] = np.frombuffer(block, np.uint8)
                start += len(block)
        return {
            f"{name}_offset": Array(np.array(self._offsets, "<i8")),
            f"{name}_crc32": Array(np.array(self._crcs, "<u4")),
        }

    def close(self) -> None:
        self._file.close()


def chunk_crcs(chunks: Sequence[bytes]) -> tuple[int, ...]:
    """Return the CRC-32 of each chunk."""
    return tuple(map(zlib.crc32, chunks))
