"""One video of a store: its record and its stored pieces, each held to its checksum as it is read.

This is the seam between the store's meaning and the way its bytes are fetched: `hdf5_video` goes
through HDF5, `direct` reads by address. Both hand over byte strings; what they mean is told here.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import ClipRangeError, JpegError, StoreCorruptError, StoreFormatError
from flowkit.quantize import I8_UNIT_PX, I16_SCALE_PX, U8_LEVELS
from flowkit.store import codec
from flowkit.store.codec import EncodedFlow, decode_chunk, jpeg_size
from flowkit.store.record import MAX_SIDE, VideoRecord
from flowkit.store.schema import StoreOptions, field_names


class Pieces(Protocol):
    """Stored byte strings: the frames of a video, or the chunks or JPEGs of a flow field."""

    crcs: NDArray[np.uint32]

    def __getitem__(self, index: int) -> bytes:
        """Return one, held to its CRC."""

    def each(self, indices: Sequence[int]) -> Iterator[bytes | memoryview]:
        """Yield several in the order asked, each held to its CRC."""


def check_crc(data: bytes | memoryview, crc32: int, index: int, where: str) -> None:
    """Raise StoreCorruptError unless the data have this CRC."""
    if codec.crc32(data) != crc32:
        raise StoreCorruptError(f"piece {index} of {where} fails its CRC")


class ChunkField:
    """A flow field of codec `i8` or `i16`: a deflated chunk and a scale for each pair.

    Parameters
    ----------
    size
        (height, width) of the field.
    """

    def __init__(
        self, pieces: Pieces, scales: NDArray[np.float32], *, wide: bool, size: tuple[int, int]
    ) -> None:
        self.piece = pieces.__getitem__
        self._pieces = pieces
        self.scales = scales
        self.dtype: np.dtype[Any] = np.dtype("<i2" if wide else "i1")
        self._crcs = pieces.crcs
        self._size = size
        # As `quantize.is_i8_scale`, of all at once.
        powers = (np.frexp(scales)[0] == 0.5) & (scales >= I8_UNIT_PX)
        sound = scales == I16_SCALE_PX if wide else powers
        if not np.all(sound):
            raise StoreCorruptError("a flow field has a scale that its codec cannot have")

    def codes(self, index: int) -> NDArray[Any]:
        """Return the codes of a field, int8 or int16 (2, H, W)."""
        return next(self.each([index]))

    def each(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield the codes of several fields, as `codes`."""
        for data in self._pieces.each(indices):
            yield decode_chunk(data, dtype=self.dtype, shape=self._size)

    def encoded(self, index: int) -> EncodedFlow:
        """Return a field as it was stored, for another file."""
        scale, crc32 = float(self.scales[index]), int(self._crcs[index])
        return EncodedFlow(data=self.piece(index), crc32=crc32, scale=scale, max_px=float("nan"), clipped=0)


class JpegField:
    """A flow field of codec `jpeg`: the JPEGs of u and v for each pair."""

    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    def __init__(self, pieces: Pieces, *, count: int, bound_px: float, size: tuple[int, int]) -> None:
        self._pieces = pieces
        self._size = size
        self.scales = np.full(count, 2 * bound_px / U8_LEVELS, np.float32)

    def piece(self, index: int) -> tuple[bytes, bytes]:
        """Return the JPEGs of u and v of a field."""
        return self._pieces[2 * index], self._pieces[2 * index + 1]

    def codes(self, index: int) -> NDArray[Any]:
        """Return the codes of a field, uint8 (2, H, W)."""
        return next(self.each([index]))

    def each(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield the codes of several fields, as `codes`."""
        planes = self._pieces.each([2 * index + plane for index in indices for plane in range(2)])
        for u in planes:
            yield np.stack([decoded(plane, self._size, grey=True) for plane in (u, next(planes))])

    def encoded(self, index: int) -> EncodedFlow:
        """Return a field as it was stored, for another file."""
        crcs = (int(self._pieces.crcs[2 * index]), int(self._pieces.crcs[2 * index + 1]))
        nan = float("nan")
        return EncodedFlow(data=self.piece(index), crc32=crcs, scale=nan, max_px=nan, clipped=0)


FlowField: TypeAlias = ChunkField | JpegField


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much a video holds: what reading it needs of its record."""

    video_id: str
    n_frames: int
    n_flow: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if not 0 <= self.n_flow <= self.n_frames:
            raise StoreCorruptError(
                f"{self.video_id!r} has {self.n_flow} flow fields for {self.n_frames} frames"
            )
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise StoreFormatError(f"{self.video_id!r} cannot be {self.width}x{self.height}")


class StoredVideo(abc.ABC):
    """One video, whichever way its bytes are fetched."""

    def __init__(self, extent: Extent, options: StoreOptions) -> None:
        self.extent = extent
        self.options = options
        self._fields: dict[str, FlowField] = {}
        self._frames: Pieces | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of frames and flow, px."""
        return self.extent.height, self.extent.width

    @property
    @abc.abstractmethod
    def record(self) -> VideoRecord:
        """What the index or the group's attributes say of the video."""

    @property
    @abc.abstractmethod
    def pts(self) -> NDArray[np.float64]:
        """Time of each frame, float64 (n_frames,), seconds."""

    @abc.abstractmethod
    def _open_frames(self) -> Pieces:
        """Return the JPEGs of the frames."""

    @abc.abstractmethod
    def _open_field(self, name: str) -> FlowField:
        """Return a flow field that the store has."""

    @property
    def frames(self) -> Pieces:
        """The JPEGs of the frames.

        Raises
        ------
        ClipRangeError
            The store keeps no frames.
        """
        if self.options.frame_codec == "none":
            raise ClipRangeError("this store keeps no frames: it was made with --frames none")
        if self._frames is None:
            self._frames = self._open_frames()
        return self._frames

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame, uint8 RGB (H, W, 3)."""
        return next(self.each_frame([index]))

    def each_frame(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield several frames, as `frame`."""
        for data in self.frames.each(indices):
            yield decoded(data, self.size, grey=False)

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
            self._fields[name] = self._open_field(name)
        return self._fields[name]

    def codes(self, name: str, indices: Sequence[int]) -> NDArray[Any]:
        """Return the codes of several pairs of a flow field, (n, 2, H, W)."""
        stored = self.field(name)
        return _gathered(stored.each(indices), len(indices), np.empty((0, 2, *self.size), stored.dtype))

    def pictures(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return several frames, uint8 RGB (n, H, W, 3)."""
        return _gathered(self.each_frame(indices), len(indices), np.empty((0, *self.size, 3), np.uint8))


def _gathered(each: Iterable[NDArray[Any]], count: int, none: NDArray[Any]) -> NDArray[Any]:
    """Stack what is read, each copied while the processor's cache still has it; `none` is for none."""
    found = none
    for place, one in enumerate(each):
        if count == 1:
            return one[None]
        if not place:
            # Only now: what was read holds the size to the bytes that are there.
            found = np.empty((count, *one.shape), one.dtype)
        found[place] = one
    return found


def decoded(data: bytes | memoryview, size: tuple[int, int], *, grey: bool) -> NDArray[np.uint8]:
    """Decode a JPEG that must have this (height, width).

    Raises
    ------
    StoreCorruptError
        It has another size, or is damaged.
    """
    # Asked of the header first: a small JPEG may claim a picture of gigabytes.
    found = jpeg_size(data)
    if found != size:
        raise StoreCorruptError(f"a stored JPEG is {found[1]}x{found[0]}, expected {size[1]}x{size[0]}")
    try:
        return jpeg.decode_grey(data) if grey else jpeg.decode(data)
    except JpegError as error:
        raise StoreCorruptError(f"a stored picture is damaged: {error}") from error
