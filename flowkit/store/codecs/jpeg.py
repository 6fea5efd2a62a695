"""Codec `jpeg`: the bytes of TSN and denseflow, a grey JPEG for each of u and v over [-bound, bound]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import JpegError, StoreCorruptError
from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.codec import FlowCodec
from flowkit.store.codecs.storage import FlatStorage
from flowkit.typing import Codes

QUALITY = 95


class JpegCodec(FlowCodec):
    """Two JPEGs a field; flow beyond the bound is clipped."""

    storage = FlatStorage(suffix="_jpeg", chunks_per_item=2, bytes_a_pixel=1)
    stores_planes = True

    @property
    def quantizer(self) -> Quantizer:
        """The rule of the codes."""
        return BoundedRange(bound_px=self.bound_px)

    def pack(self, codes: Codes) -> tuple[bytes, ...]:
        """Return the JPEGs of u and v."""
        return jpeg.encode_grey(codes[0], QUALITY), jpeg.encode_grey(codes[1], QUALITY)

    def unpack(self, chunks: Sequence[bytes | memoryview], size: tuple[int, int]) -> Codes:
        """Decode two JPEGs to codes."""
        return np.stack([decode_sized(chunk, size, grey=True) for chunk in chunks])

    def to_planes(self, codes: Codes, scale: float, *, bound_px: float) -> tuple[NDArray[np.uint8], int]:
        """Return the codes as they are, or requantised where another bound is asked for."""
        if bound_px == self.bound_px:
            return codes.astype(np.uint8, copy=False), 0
        return super().to_planes(codes, scale, bound_px=bound_px)


def jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return the (height, width) that a JPEG's header claims.

    Raises
    ------
    StoreCorruptError
        There is no such header.

    Notes
    -----
    Source: ITU-T T.81, B.1.1 and B.2.2: segments with a length of their own up to the frame
    header, SOF0 to SOF15 without DHT, JPG and DAC.
    """
    start = 2
    while data[:2] == b"\xff\xd8" and start + 9 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[start + 5 : start + 7], data[start + 7 : start + 9]
            return int.from_bytes(height), int.from_bytes(width)
        start += 2 + int.from_bytes(data[start + 2 : start + 4])
    raise StoreCorruptError(f"{len(data)} stored bytes are no JPEG")


def decode_sized(data: bytes | memoryview, size: tuple[int, int], *, grey: bool) -> NDArray[np.uint8]:
    """Decode a JPEG that must have this (height, width).

    Raises
    ------
    StoreCorruptError
        It has another size, or is damaged.
    """
    # From the header first: a small JPEG may claim an image of gigabytes.
    found = jpeg_size(data)
    if found != size:
        raise StoreCorruptError(f"a stored JPEG is {found[1]}x{found[0]}, expected {size[1]}x{size[0]}")
    try:
        return jpeg.decode_grey(data) if grey else jpeg.decode(data)
    except JpegError as error:
        raise StoreCorruptError(f"a stored image is damaged: {error}") from error
