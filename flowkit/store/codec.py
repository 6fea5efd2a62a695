"""A flow field and the stored bytes that stand for it; one call codes one field.

The calls are self-contained and safe on threads, and deflate releases the GIL.
"""

from __future__ import annotations

import importlib
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg, quantize
from flowkit.errors import InvalidParameterError, StoreCorruptError
from flowkit.store.schema import DEFLATE_LEVEL, FLOW_CODECS

FLOW_JPEG_QUALITY = 95
# Deflate cannot shrink further than 1032 to 1: what claims more is not what it claims.
MAX_DEFLATE_RATIO = 1032


def _load_deflate() -> Any:
    """Return libdeflate's binding, or None: a machine without it still works, more slowly."""
    try:
        return importlib.import_module("deflate")
    except ImportError:
        return None


_deflate: Any = _load_deflate()
_ERRORS: tuple[type[Exception], ...] = (zlib.error, *((_deflate.DeflateError,) if _deflate else ()))


def has_libdeflate() -> bool:
    """Tell whether libdeflate inflates; zlib takes about twice as long."""
    return _deflate is not None


def crc32(data: bytes | memoryview) -> int:
    """Return the CRC-32 of stored bytes, as zlib defines it; libdeflate is ten times as fast."""
    return int(_deflate.crc32(data)) if _deflate else zlib.crc32(data)


def deflate_library() -> str:
    """Return which library deflates: `deflate 0.9.0` (libdeflate) or `zlib 1.3`."""
    return f"deflate {_deflate.__version__}" if _deflate else f"zlib {zlib.ZLIB_RUNTIME_VERSION}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedFlow:
    """One flow field, ready to be stored."""

    data: bytes | tuple[bytes, bytes]
    """The deflated chunk (`i8`, `i16`), or the JPEGs of u and v (`jpeg`)."""
    crc32: int | tuple[int, int]
    """Of each stored piece."""
    scale: float
    """px a code; NaN for `jpeg`, whose bound is the store's."""
    max_px: float
    """Largest absolute component before quantisation, px."""
    clipped: int
    """Components that the codec clipped."""


def encode_flow(
    flow: NDArray[np.float32], *, codec: str = "i8", bound_px: float = 20.0, level: int = DEFLATE_LEVEL
) -> EncodedFlow:
    """Quantise and compress one flow field.

    Parameters
    ----------
    flow
        float32 (2, H, W), u then v, px per frame step; finite.
    codec
        `i8`, `i16` or `jpeg`.
    bound_px
        Half the range of `jpeg`, px.
    level
        Effort of deflate, 1 to 9.

    Raises
    ------
    InvalidParameterError
        The field has another shape or dtype, is not finite, or the codec is unknown.
    """
    if flow.ndim != 3 or flow.shape[0] != 2 or flow.dtype != np.float32:
        raise InvalidParameterError(f"flow must be float32 (2, H, W), got {flow.dtype} {flow.shape}")
    codes: NDArray[Any]
    clipped = 0
    if codec == "i8":
        codes, _ = quantize.quantize_i8(flow)
    elif codec == "i16":
        codes, clipped = quantize.quantize_i16(flow)
    elif codec == "jpeg":
        codes, clipped = quantize.quantize_u8(flow, bound_px=bound_px)
    else:
        raise InvalidParameterError(f"Invalid codec ({codec!r}). Supported values are {FLOW_CODECS}")
    max_px = quantize.largest_px(flow)
    return encode_codes(codes, codec=codec, max_px=max_px, clipped=clipped, level=level)


def encode_codes(
    codes: NDArray[Any], *, codec: str, max_px: float, clipped: int, level: int = DEFLATE_LEVEL
) -> EncodedFlow:
    """Compress one field that is quantised already.

    Parameters
    ----------
    codes
        (2, H, W), u then v: int8 for `i8`, int16 for `i16`, uint8 for `jpeg`; as `flowkit.quantize` makes
        them.
    codec
        `i8`, `i16` or `jpeg`.
    max_px
        Largest absolute component before quantisation, px; it gives the scale of `i8`.
    clipped
        Components that quantising clipped.
    level
        Effort of deflate, 1 to 9.
    """
    data: bytes | tuple[bytes, bytes]
    if codec == "jpeg":
        data = (jpeg.encode_grey(codes[0], FLOW_JPEG_QUALITY), jpeg.encode_grey(codes[1], FLOW_JPEG_QUALITY))
        crc: int | tuple[int, int] = (zlib.crc32(data[0]), zlib.crc32(data[1]))
        return EncodedFlow(data=data, crc32=crc, scale=float("nan"), max_px=max_px, clipped=clipped)
    if codec == "i16":
        data, scale = _compress(shuffle(codes), level), quantize.I16_SCALE_PX
    else:
        data, scale = _compress(codes.tobytes(), level), quantize.i8_scale(max_px)
    return EncodedFlow(data=data, crc32=zlib.crc32(data), scale=scale, max_px=max_px, clipped=clipped)


def decode_chunk(data: bytes | memoryview, *, dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return the codes of one stored chunk.

    Parameters
    ----------
    data
        The deflated chunk.
    dtype
        int8 or int16; int16 codes are shuffled.
    shape
        (H, W) of the field.

    Returns
    -------
    int8 or int16 array (2, H, W)

    Raises
    ------
    StoreCorruptError
        The bytes are no deflated field of this size; nothing of the size is allocated then.
    """
    size = 2 * shape[0] * shape[1] * dtype.itemsize
    if size > MAX_DEFLATE_RATIO * (len(data) + 1):
        raise StoreCorruptError(f"a chunk of {len(data)} bytes cannot hold a field of {size} bytes")
    raw = _decompress(data, size)
    if dtype.itemsize == 1:
        return np.frombuffer(raw, dtype).reshape(2, *shape)
    return unshuffle(raw, dtype).reshape(2, *shape)


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


def shuffle(codes: NDArray[Any]) -> bytes:
    """Return the bytes of `codes` as HDF5's shuffle filter orders them: all first bytes, then all second."""
    return codes.view(np.uint8).reshape(-1, codes.itemsize).T.tobytes()


def unshuffle(raw: bytes | bytearray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the flat array whose shuffled bytes are `raw`."""
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    values = np.empty(planes.shape[1], dtype)
    # Plane by plane: three times as fast as a transpose, which jumps from byte to byte.
    by_byte = values.view(np.uint8).reshape(-1, dtype.itemsize)
    for k, plane in enumerate(planes):
        by_byte[:, k] = plane
    return values


def _compress(raw: bytes, level: int) -> bytes:
    return bytes(_deflate.zlib_compress(raw, level)) if _deflate else zlib.compress(raw, level)


def _decompress(data: bytes | memoryview, size: int) -> bytes | bytearray:
    """Return exactly `size` bytes, or raise; more are never made."""
    raw: bytes | bytearray
    try:
        if _deflate:
            raw = _deflate.zlib_decompress(data, size)
        else:
            stream = zlib.decompressobj()
            raw = stream.decompress(data, size + 1)
            if not stream.eof:
                raise zlib.error("incomplete or too long a stream")
    except _ERRORS as error:
        raise StoreCorruptError(f"a chunk does not inflate: {error}") from error
    if len(raw) != size:
        raise StoreCorruptError(f"a chunk inflates to {len(raw)} bytes, expected {size}")
    return raw
