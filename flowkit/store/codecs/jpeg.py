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


def decode_sized(data: bytes | memoryview, size: tuple[int, int], *, grey: bool) -> NDArray[np.uint8]:
    """Decode a JPEG that must have this (height, width).

    Raises
    ------
    StoreCorruptError
        It has another size, or is damaged.
    """
    try:
        # From the header first: a small JPEG may claim an image of gigabytes.
        found = jpeg.size(data)
        if found == size:
            image = jpeg.decode_grey(data) if grey else jpeg.decode(data)
            found = image.shape[:2]
    except JpegError as error:
        raise StoreCorruptError(f"a stored image is damaged: {error}") from error
    if found != size:
        raise StoreCorruptError(f"a stored JPEG is {found[1]}x{found[0]}, expected {size[1]}x{size[0]}")
    return image
