"""Deflated chunks as HDF5's filters make them, by libdeflate where it is installed, and checksums.

The calls are self-contained and safe on threads, and deflate releases the GIL.
"""

from __future__ import annotations

import importlib
import zlib
from types import ModuleType

import numpy as np

from flowkit.errors import StoreCorruptError
from flowkit.typing import Codes

DEFLATE_LEVEL = 5
"""Against 6: 1 to 5 % more bytes of flow for 9 to 25 % less time; 4 takes 8 to 20 % more bytes."""

# Deflate cannot shrink further than 1032 to 1: a larger ratio is a false claim.
MAX_DEFLATE_RATIO = 1032


def _load_deflate() -> ModuleType | None:
    """Return libdeflate's binding, or None: without it zlib serves, more slowly."""
    try:
        return importlib.import_module("deflate")
    except ImportError:
        return None


_deflate = _load_deflate()
_ERRORS: tuple[type[Exception], ...] = (zlib.error, *((_deflate.DeflateError,) if _deflate else ()))


def has_libdeflate() -> bool:
    """Return True if libdeflate is installed; zlib takes about twice as long to inflate."""
    return _deflate is not None


def crc32(data: bytes | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of stored bytes, as zlib defines it; libdeflate is several times as fast.

    Parameters
    ----------
    value
        The CRC of what goes before them.
    """
    return int(_deflate.crc32(data, value)) if _deflate else zlib.crc32(data, value)


def deflate_library() -> str:
    """Return name and version of the deflate library: `deflate 0.9.0` (libdeflate) or `zlib 1.3`."""
    return f"deflate {_deflate.__version__}" if _deflate else f"zlib {zlib.ZLIB_RUNTIME_VERSION}"


def encode_chunk(codes: Codes, *, shuffled: bool) -> bytes:
    """Return an array as HDF5's filters store it: deflated, its bytes shuffled before if asked."""
    # As it lies in memory where it can be: no copy.
    raw = shuffle(codes) if shuffled else np.ascontiguousarray(codes).data
    return (
        bytes(_deflate.zlib_compress(raw, DEFLATE_LEVEL)) if _deflate else zlib.compress(raw, DEFLATE_LEVEL)
    )


def decode_chunk(
    data: bytes | memoryview, *, dtype: np.dtype[np.number], shape: tuple[int, int], shuffled: bool
) -> Codes:
    """Return the codes of one stored chunk.

    Parameters
    ----------
    data
        The deflated chunk.
    dtype
        Of the codes.
    shape
        (H, W) of the field.
    shuffled
        Whether the bytes were shuffled before they were deflated.

    Returns
    -------
    array (2, H, W)

    Raises
    ------
    StoreCorruptError
        The bytes are no deflated field of this size; nothing of the size is allocated then.
    """
    size = 2 * shape[0] * shape[1] * dtype.itemsize
    if size > MAX_DEFLATE_RATIO * (len(data) + 1):
        raise StoreCorruptError(f"a chunk of {len(data)} bytes cannot hold a field of {size} bytes")
    raw = _decompress(data, size)
    codes = unshuffle(raw, dtype) if shuffled else np.frombuffer(raw, dtype)
    return codes.reshape(2, *shape)


def shuffle(codes: Codes) -> bytes:
    """Return the bytes of `codes` as HDF5's shuffle filter orders them: all first bytes, then all second."""
    return codes.view(np.uint8).reshape(-1, codes.itemsize).T.tobytes()


def unshuffle(raw: bytes | bytearray, dtype: np.dtype[np.number]) -> Codes:
    """Return the flat array whose shuffled bytes are `raw`."""
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    values = np.empty(planes.shape[1], dtype)
    # Plane by plane: three times as fast as a transpose, which jumps from byte to byte.
    by_byte = values.view(np.uint8).reshape(-1, dtype.itemsize)
    for k, plane in enumerate(planes):
        by_byte[:, k] = plane
    return values


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
