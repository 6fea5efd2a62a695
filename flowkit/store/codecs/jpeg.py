"""Codec `jpeg`: the bytes of TSN and denseflow, a grey JPEG for each of u and v over [-bound, bound]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.quantize import BoundedRange, Quantizer
from flowkit.store.codecs.codec import FlowCodec
from flowkit.store.codecs.storage import FlatStorage
from flowkit.store.sized_jpeg import decode_sized

QUALITY = 95


class JpegCodec(FlowCodec):
    """Two JPEGs a field; what lies beyond the bound is clipped."""

    storage = FlatStorage(suffix="_jpeg", pieces_per_item=2, bytes_a_pixel=1)
    stores_planes = True

    @property
    def quantizer(self) -> Quantizer:
        """What makes the codes."""
        return BoundedRange(bound_px=self.bound_px)

    def pack(self, codes: NDArray[Any]) -> tuple[bytes, ...]:
        """Return the JPEGs of u and v."""
        return jpeg.encode_grey(codes[0], QUALITY), jpeg.encode_grey(codes[1], QUALITY)

    def unpack(self, pieces: Sequence[bytes | memoryview], size: tuple[int, int]) -> NDArray[Any]:
        """Return the codes that two JPEGs decode to."""
        return np.stack([decode_sized(piece, size, grey=True) for piece in pieces])

    def to_planes(
        self, codes: NDArray[Any], scale: float, *, bound_px: float
    ) -> tuple[NDArray[np.uint8], int]:
        """Return the codes as they are, or requantised where another bound is asked for."""
        if bound_px == self.bound_px:
            return codes, 0
        return super().to_planes(codes, scale, bound_px=bound_px)
