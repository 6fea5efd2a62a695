"""The codes that engines give → the bytes that a store keeps, one field a call.

What `flowkit.store.codec.encode_flow` makes of floats, byte for byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.quantize import I16_SCALE_PX, i8_scale
from flowkit.store.codec import FLOW_JPEG_QUALITY, EncodedFlow, _compress, shuffle
from flowkit.store.schema import DEFLATE_LEVEL, StoreOptions
from flowkit.tvl1.codes import Code, FlowCodes

_CODES: dict[str, Code] = {"i8": "i8", "i16": "i16", "jpeg": "u8"}


def wanted_code(options: StoreOptions) -> tuple[Code, float | None]:
    """Return the code that a store's flow codec packs, and its bound in px where it has one."""
    code = _CODES[options.flow_codec]
    return code, options.bound_px if code == "u8" else None


def encode_codes(made: FlowCodes, codec: str) -> Iterator[EncodedFlow]:
    """Yield each field of a batch, packed for a store.

    Parameters
    ----------
    made : FlowCodes
        Of the code that `wanted_code` names for the codec.
    codec : {"i8", "i16", "jpeg"}
    """
    for codes, largest_px, clipped in zip(made.codes, made.largest_px, made.clipped, strict=True):
        max_px = float(largest_px)
        data, scale = _packed(codes, codec, max_px)
        crc = zlib.crc32(data) if isinstance(data, bytes) else (zlib.crc32(data[0]), zlib.crc32(data[1]))
        yield EncodedFlow(data=data, crc32=crc, scale=scale, max_px=max_px, clipped=int(clipped))


def _packed(codes: NDArray[Any], codec: str, max_px: float) -> tuple[bytes | tuple[bytes, bytes], float]:
    """Return the stored bytes of one field, and px a code."""
    if codec == "jpeg":
        u, v = (jpeg.encode_grey(plane, FLOW_JPEG_QUALITY) for plane in codes)
        return (u, v), float("nan")
    if codec == "i16":
        return _compress(shuffle(codes), DEFLATE_LEVEL), I16_SCALE_PX
    return _compress(codes.tobytes(), DEFLATE_LEVEL), i8_scale(max_px)
