"""One video of a store: its record and its stored chunks, the checksum of each checked on reading.

The interface between the store's contents and the two ways to read its bytes: `hdf5_video` goes
through HDF5, `direct_video` reads by address. Both return byte strings, which are decoded here.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import ClipRangeError, StoreCorruptError, StoreFormatError
from flowkit.jpeg import MOST_PIXELS
from flowkit.store.codecs import deflate
from flowkit.store.codecs.codec import FlowCodec
from flowkit.store.codecs.jpeg import decode_sized
from flowkit.store.codecs.storage import FRAMES, Chunks, EncodedFlow, FieldSource
from flowkit.store.record import MAX_SIDE, VideoRecord
from flowkit.store.schema import StoreOptions, field_names
from flowkit.typing import Codes

Number = TypeVar("Number", bound=np.number)


def check_crc(data: bytes | memoryview, crc32: int, index: int, where: str) -> None:
    """Raise StoreCorruptError unless the data have this CRC."""
    if deflate.crc32(data) != crc32:
        raise StoreCorruptError(f"chunk {index} of {where} fails its CRC")


class FlowField:
    """A flow field of a video: its stored chunks, and their codes by its codec.

    Parameters
    ----------
    source
        The field as the reader has it.
    count
        Number of pairs.
    size
        (height, width) of the field.
    """

    def __init__(self, codec: FlowCodec, source: FieldSource, *, count: int, size: tuple[int, int]) -> None:
        self.codec = codec
        self._chunks, scales = codec.storage.open(source, count=count, size=size)
        self._per_pair = codec.storage.chunks_per_item
        self._size = size
        self.scales = codec.checked_scales(scales, count)

    def chunks(self, index: int) -> tuple[bytes, ...]:
        """Return the byte strings of a pair."""
        return tuple(self._chunks[k] for k in self._numbers([index]))

    def codes(self, index: int) -> Codes:
        """Return the codes of a pair, (2, H, W)."""
        return next(self.each([index]))

    def each(self, indices: Sequence[int]) -> Iterator[Codes]:
        """Yield the codes of several pairs, as `codes`."""
        chunks = self._chunks.each(self._numbers(indices))
        for own in zip(*[chunks] * self._per_pair, strict=True):
            yield self.codec.unpack(own, self._size)

    def encoded(self, index: int, *, clipped: int | None) -> EncodedFlow:
        """Return a pair as it is stored, for another file; `clipped` is of `StoredVideo.clipped`."""
        return EncodedFlow(
            codec=self.codec.name,
            chunks=self.chunks(index),
            crcs=tuple(int(self._chunks.crcs[k]) for k in self._numbers([index])),
            scale=float(self.scales[index]),
            max_px=math.nan,
            clipped=clipped,
        )

    def _numbers(self, indices: Sequence[int]) -> Sequence[int]:
        """Return the numbers of the chunks of several pairs."""
        if self._per_pair == 1:
            return indices
        return [self._per_pair * index + k for index in indices for k in range(self._per_pair)]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """Counts and size of a video: the part of its record that reading needs."""

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
    """One video, read through HDF5 or by address."""

    def __init__(self, extent: Extent, options: StoreOptions) -> None:
        self.extent = extent
        self.options = options
        self._fields: dict[str, FlowField] = {}
        self._frames: Chunks | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of frames and flow, px."""
        return self.extent.height, self.extent.width

    @property
    @abc.abstractmethod
    def record(self) -> VideoRecord:
        """The record, from the index or the group's attributes."""

    @property
    @abc.abstractmethod
    def pts(self) -> NDArray[np.float64]:
        """Time of each frame, float64 (n_frames,), seconds."""

    @abc.abstractmethod
    def stored_clipped(self, name: str) -> NDArray[np.int32] | None:
        """Return the stored array of how many components of each pair the codec clipped, None without one.

        Raises
        ------
        StoreCorruptError
            It fails its CRC, or a number is no number of components of a field.
        """

    @abc.abstractmethod
    def _frame_source(self) -> FieldSource:
        """Return the source of the frames' chunks."""

    @abc.abstractmethod
    def _field_source(self, name: str) -> FieldSource:
        """Return the source of the chunks of a flow field that the store has."""

    @property
    def frames(self) -> Chunks:
        """The JPEGs of the frames.

        Raises
        ------
        ClipRangeError
            The store keeps no frames.
        StoreFormatError
            They are too large to be decoded.
        """
        if self.options.frame_codec == "none":
            raise ClipRangeError("this store keeps no frames: it was made with --frames none")
        if self._frames is None:
            self._check_decodable()
            opened = FRAMES.open(self._frame_source(), count=self.extent.n_frames, size=self.size)
            self._frames = opened.chunks
        return self._frames

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame, uint8 RGB (H, W, 3)."""
        return next(self.each_frame([index]))

    def each_frame(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield several frames, as `frame`."""
        for data in self.frames.each(indices):
            yield decode_sized(data, self.size, grey=False)

    def field(self, name: str) -> FlowField:
        """Return a flow field of the video.

        Raises
        ------
        ClipRangeError
            The store has no such field.
        StoreFormatError
            It is too large to be decoded.
        """
        if name not in self._fields:
            self._check_field(name)
            self._check_decodable()
            self._fields[name] = FlowField(
                self.options.codec, self._field_source(name), count=self.extent.n_flow, size=self.size
            )
        return self._fields[name]

    def clipped(self, name: str) -> NDArray[np.int32] | None:
        """Return how many components of each pair of a flow field the codec clipped; see `Clip.clipped`."""
        self._check_field(name)
        stored = self.stored_clipped(name)
        if stored is not None:
            return stored
        codec = self.options.codec
        # Of images the fraction is of what another tool clipped, as far as JPEG left it to be seen.
        known = not codec.quantizer.saturates or (
            self.record.clipped_fraction == 0 and not codec.stores_planes
        )
        return np.zeros(self.extent.n_flow, np.int32) if known else None

    def encoded(self, name: str) -> Iterator[EncodedFlow]:
        """Yield the pairs of a flow field as they are stored, for another file."""
        field, clipped = self.field(name), self.clipped(name)
        for k in range(self.extent.n_flow):
            yield field.encoded(k, clipped=None if clipped is None else int(clipped[k]))

    def _check_field(self, name: str) -> None:
        if name not in field_names(self.options):
            raise ClipRangeError(
                f"there is no flow field {name!r}; this store has {list(field_names(self.options))}"
            )

    def _check_decodable(self) -> None:
        height, width = self.size
        if height * width > MOST_PIXELS:
            raise StoreFormatError(
                f"{self.extent.video_id!r} is {width}x{height} px; fields and frames of more than "
                f"{MOST_PIXELS} px are not decoded: extract it with --size or --short-side"
            )

    def codes(self, name: str, indices: Sequence[int]) -> Codes:
        """Return the codes of several pairs of a flow field, (n, 2, H, W)."""
        stored = self.field(name)
        return _gathered(stored.each(indices), len(indices), np.empty((0, 2, *self.size), stored.codec.dtype))

    def images(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return several frames, uint8 RGB (n, H, W, 3)."""
        return _gathered(self.each_frame(indices), len(indices), np.empty((0, *self.size, 3), np.uint8))


def _gathered(each: Iterable[NDArray[Number]], count: int, none: NDArray[Number]) -> NDArray[Number]:
    """Stack arrays, each copied while the processor's cache still has it; `none` if there are none."""
    found = none
    for position, one in enumerate(each):
        if count == 1:
            return one[None]
        if not position:
            # Only now: the first array proves that the size fits the stored bytes.
            found = np.empty((count, *one.shape), one.dtype)
        found[position] = one
    return found
