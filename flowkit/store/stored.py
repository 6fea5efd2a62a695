"""The stored pieces of one video, each held to its checksum as it is read.

This is the seam between the store's meaning and the way its bytes are fetched: whoever reads
faster does so behind `StoredVideo`.
"""

from __future__ import annotations

import functools
import os
import zlib
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import ClipRangeError, JpegError, StoreCorruptError
from flowkit.quantize import I16_SCALE_PX, U8_LEVELS, is_i8_scale
from flowkit.store import guard
from flowkit.store.codec import EncodedFlow, decode_chunk, jpeg_size
from flowkit.store.schema import VIDEOS, StoreOptions, VideoRecord, field_names


class Pieces:
    """Byte strings that lie end to end in one dataset: frames, or flow as JPEG.

    Parameters
    ----------
    name
        Dataset of the bytes; offsets and checksums are `<prefix>_offset` and `<prefix>_crc32`.
    count
        How many pieces there must be.
    """

    def __init__(self, group: h5py.Group, name: str, *, prefix: str, count: int, check: bool) -> None:
        self._where = f"{group.name}/{name} of {group.file.filename}"
        self._data = guard.dataset(group, name, dtype="u1", shape=(None,))
        self._check = check
        self.offsets = guard.read_array(group, f"{prefix}_offset", dtype="<i8", shape=(count + 1,))
        self.crcs = guard.read_array(group, f"{prefix}_crc32", dtype="<u4", shape=(count,))
        ends = (int(self.offsets[0]), int(self.offsets[-1]))
        if ends != (0, self._data.size) or np.any(np.diff(self.offsets) < 0):
            raise StoreCorruptError(f"the offsets of {self._where} do not divide its {self._data.size} bytes")

    def __getitem__(self, index: int) -> bytes:
        start, stop = self.offsets[index : index + 2].tolist()
        data: bytes = self._data[start:stop].tobytes()
        if self._check and zlib.crc32(data) != self.crcs[index]:
            raise StoreCorruptError(f"piece {index} of {self._where} fails its CRC")
        return data


class ChunkField:
    """A flow field of codec `i8` or `i16`: a deflated chunk and a scale for each pair."""

    def __init__(
        self, group: h5py.Group, name: str, *, shape: tuple[int, ...], wide: bool, check: bool
    ) -> None:
        self._where = f"{group.name}/{name} of {group.file.filename}"
        count, height, width = shape
        self._size = (height, width)
        self._check = check
        self._file_bytes = os.path.getsize(group.file.filename)
        self._data = guard.dataset(
            group, name, dtype="<i2" if wide else "i1", shape=(count, 2, height, width)
        )
        if self._data.chunks != (1, 2, height, width):
            raise StoreCorruptError(f"{self._where} has chunks {self._data.chunks}, expected one a field")
        self.scales = guard.read_array(group, f"{name}_scale", dtype="<f4", shape=(count,))
        self.crcs = guard.read_array(group, f"{name}_crc32", dtype="<u4", shape=(count,))
        sound = (
            self.scales == I16_SCALE_PX if wide else [is_i8_scale(scale) for scale in self.scales.tolist()]
        )
        if not np.all(sound):
            raise StoreCorruptError(f"{self._where} has a scale that its codec cannot have")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the codes."""
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    @property
    def chunks_stored(self) -> int:
        """How many chunks are there; fewer than fields after a write that failed."""
        count: int = self._data.id.get_num_chunks()
        return count

    def piece(self, index: int) -> bytes:
        """Return the stored chunk of a field."""
        offset = (index, 0, 0, 0)
        found = self._data.id.get_chunk_info_by_coord(offset)
        # Held to the file before h5py allocates what the chunk's index claims.
        if found.byte_offset is None or found.byte_offset + found.size > self._file_bytes:
            raise StoreCorruptError(f"chunk {index} of {self._where} is missing or ends beyond the file")
        mask, data = self._data.id.read_direct_chunk(offset)
        if mask or (self._check and zlib.crc32(data) != self.crcs[index]):
            raise StoreCorruptError(f"chunk {index} of {self._where} fails its CRC")
        return bytes(data)

    def codes(self, index: int) -> NDArray[Any]:
        """Return the codes of a field, int8 or int16 (2, H, W)."""
        return decode_chunk(self.piece(index), dtype=self._data.dtype, shape=self._size)

    def encoded(self, index: int) -> EncodedFlow:
        """Return a field as it was stored, for another file."""
        scale = float(self.scales[index])
        return EncodedFlow(
            data=self.piece(index), crc32=int(self.crcs[index]), scale=scale, max_px=float("nan"), clipped=0
        )


class JpegField:
    """A flow field of codec `jpeg`: the JPEGs of u and v for each pair."""

    dtype = np.dtype(np.uint8)

    def __init__(
        self, group: h5py.Group, name: str, *, shape: tuple[int, ...], bound_px: float, check: bool
    ) -> None:
        count, height, width = shape
        self._size = (height, width)
        self._pieces = Pieces(group, f"{name}_jpeg", prefix=name, count=2 * count, check=check)
        self.scales = np.full(count, 2 * bound_px / U8_LEVELS, np.float32)

    def piece(self, index: int) -> tuple[bytes, bytes]:
        """Return the JPEGs of u and v of a field."""
        return self._pieces[2 * index], self._pieces[2 * index + 1]

    def codes(self, index: int) -> NDArray[Any]:
        """Return the codes of a field, uint8 (2, H, W)."""
        return np.stack([_decoded(plane, self._size, grey=True) for plane in self.piece(index)])

    def encoded(self, index: int) -> EncodedFlow:
        """Return a field as it was stored, for another file."""
        crcs = (int(self._pieces.crcs[2 * index]), int(self._pieces.crcs[2 * index + 1]))
        nan = float("nan")
        return EncodedFlow(data=self.piece(index), crc32=crcs, scale=nan, max_px=nan, clipped=0)


FlowField: TypeAlias = ChunkField | JpegField


class StoredVideo:
    """One video of an open file: its record and its stored pieces.

    Parameters
    ----------
    record
        What the index or the group's attributes say of it.
    check
        Whether each piece is held to its CRC.
    """

    def __init__(
        self, file: h5py.File, record: VideoRecord, options: StoreOptions, *, check: bool = True
    ) -> None:
        self.group = guard.group(file, f"{VIDEOS}/{record.video_id}")
        self.record = record
        self.options = options
        self._check = check
        self._fields: dict[str, FlowField] = {}
        # Counts go into ranges and sizes; they are held to bytes that are there before anything.
        self._pts = guard.dataset(self.group, "pts", dtype="<f8", shape=(record.n_frames,))
        if record.n_flow > record.n_frames:
            raise StoreCorruptError(
                f"{record.video_id!r} has {record.n_flow} flow fields for {record.n_frames} frames"
            )

    @functools.cached_property
    def pts(self) -> NDArray[np.float64]:
        """Time of each frame, float64 (n_frames,), seconds."""
        times: NDArray[np.float64] = self._pts[()]
        return times

    @functools.cached_property
    def frames(self) -> Pieces:
        """The JPEGs of the frames.

        Raises
        ------
        ClipRangeError
            The store keeps no frames.
        """
        if self.options.frame_codec == "none":
            raise ClipRangeError("this store keeps no frames: it was made with --frames none")
        return Pieces(self.group, "frames", prefix="frames", count=self.record.n_frames, check=self._check)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame, uint8 RGB (H, W, 3)."""
        return _decoded(self.frames[index], (self.record.height, self.record.width), grey=False)

    def field(self, name: str) -> FlowField:
        """Return a flow field of the video.

        Raises
        ------
        ClipRangeError
            The store has no such field.
        """
        if name not in self._fields:
            if name not in field_names(self.options):
                raise ClipRangeError(
                    f"there is no flow field {name!r}; this store has {list(field_names(self.options))}"
                )
            self._fields[name] = self._opened_field(name)
        return self._fields[name]

    def _opened_field(self, name: str) -> FlowField:
        record, codec = self.record, self.options.flow_codec
        shape = (record.n_flow, record.height, record.width)
        if codec == "jpeg":
            bound_px = self.options.bound_px
            return JpegField(self.group, name, shape=shape, bound_px=bound_px, check=self._check)
        return ChunkField(self.group, name, shape=shape, wide=codec == "i16", check=self._check)


def _decoded(data: bytes, size: tuple[int, int], *, grey: bool) -> NDArray[np.uint8]:
    """Decode a JPEG that must have this (height, width)."""
    # Asked of the header first: a small JPEG may claim a picture of gigabytes.
    found = jpeg_size(data)
    if found != size:
        raise StoreCorruptError(f"a stored JPEG is {found[1]}x{found[0]}, expected {size[1]}x{size[0]}")
    try:
        return jpeg.decode_grey(data) if grey else jpeg.decode(data)
    except JpegError as error:
        raise StoreCorruptError(f"a stored picture is damaged: {error}") from error
