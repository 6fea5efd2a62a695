"""Arrays of flow or frames in .npy and .npz: read an item at a time, without trust in what they claim.

A .npy is mapped into memory; the member of an .npz is unpacked as far as the item that is asked for. No
pickle is loaded, and nothing is allocated that the file's own size does not cover.
"""

from __future__ import annotations

import contextlib
import functools
import io
import lzma
import math
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InputError
from flowkit.jpeg import MOST_PIXELS
from flowkit.typing import Flow, UInt8

NPY_SUFFIX, NPZ_SUFFIX = ".npy", ".npz"
ARRAY_SUFFIXES = (NPY_SUFFIX, NPZ_SUFFIX)

MOST_ITEMS = 1 << 20
"""Fields or frames of an array: ten hours of video."""
KNOWN_PX = 1e9
"""The largest component of a known pixel; Middlebury's files have larger ones where flow is unknown."""

_NAMED = 5
_SKIPPED_BYTES = 1 << 20
_NO_ARRAY = "no array that NumPy reads without unpickling"
_DAMAGE = (
    *(ValueError, EOFError, OSError, OverflowError, TypeError, KeyError, MemoryError, RecursionError),
    # RuntimeError: an encrypted member, or packed in a way that zipfile does not know.
    *(RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
    # A header's text is divided as Python is.
    *(SyntaxError, tokenize.TokenError, lzma.LZMAError),
)
_Read: TypeAlias = Callable[[int], NDArray[Any]]
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class OtherArraysError(InputError):
    """An .npz has no array, or several and none of the name that is looked for."""


class _Header(NamedTuple):
    """The claims of an array's header, and the number of the header's bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @property
    def item_bytes(self) -> int:
        """Bytes of one item of the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of header and values."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class ItemArray:
    """An array of a file, read by items of its first axis; `name` is for messages."""

    def __init__(self, name: str, header: _Header, read: _Read) -> None:
        self.name = name
        self.shape, self.dtype = header.shape, header.dtype
        self._read = read

    def item(self, index: int) -> NDArray[Any]:
        """Return one item; a view of the file where that is possible.

        Raises
        ------
        InputError
            The file was cut or is damaged there.
        """
        try:
            return self._read(index)
        except _DAMAGE as error:
            raise InputError(f"{self.name}: item {index} cannot be read: {error}") from error

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


def open_array(path: Path, member: str) -> ItemArray:
    """Open a .npy, or an array of an .npz, reading its header alone.

    Parameters
    ----------
    path
        The file.
    member
        The array of an .npz to take where it has several; of one with a single array that is taken.

    Raises
    ------
    InputError
        It is no regular file or no array, has Python objects, which only unpickling would read, or is smaller
        than its header claims.
    OSError
        It cannot be read.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: no regular file, so no array")
    return _opened(path, member, (about.st_mtime_ns, about.st_size))


@functools.lru_cache(maxsize=4)
def _opened(path: Path, member: str, _: tuple[int, int]) -> ItemArray:
    """Open an array; it is kept for its next item, and opened again if its file was replaced."""
    try:
        if path.suffix.lower() == NPZ_SUFFIX:
            return _open_member(path, member)
        with path.open("rb") as stream:
            header = _read_header(stream)
        _check_bytes(header, path.stat().st_size)
        order = "F" if header.fortran else "C"
        mapped = np.memmap(path, header.dtype, "r", header.offset, header.shape, order)  # type: ignore[call-overload]
        return ItemArray(str(path), header, mapped.__getitem__)
    except OtherArraysError:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise InputError(f"{path}: {_NO_ARRAY}: {error}") from error


def _open_member(path: Path, member: str) -> ItemArray:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(NPY_SUFFIX) for name in archive.namelist() if name.endswith(NPY_SUFFIX)]
        if not names or (len(names) > 1 and member not in names):
            raise OtherArraysError(
                f"{path}: arrays {', '.join(names[:_NAMED]) or 'none'}, expected one, or one called "
                f"{member}; save that alone"
            )
        name = (names[0] if len(names) == 1 else member) + NPY_SUFFIX
        with archive.open(name) as stream:
            header = _read_header(stream)
        _check_bytes(header, archive.getinfo(name).file_size)
    if header.fortran and len(header.shape) > 1:
        raise InputError(f"{name} is in Fortran's order, which is read from .npy only; save it in C's order")
    return ItemArray(f"{path}:{name}", header, _Member(path, name, header).read)


class _Member:
    """Reads the items of an array in an archive, forwards; another one before the last starts again."""

    def __init__(self, path: Path, name: str, header: _Header) -> None:
        self._path, self._name, self._header = path, name, header
        self._open = contextlib.ExitStack()
        self._stream: IO[bytes] | None = None
        self._at = 0

    def read(self, index: int) -> NDArray[Any]:
        header = self._header
        start = header.offset + index * header.item_bytes
        try:
            stream = self._stream
            if stream is None or start < self._at:
                stream = self._start()
            while self._at < start:
                self._take(stream, min(_SKIPPED_BYTES, start - self._at))
            values = np.frombuffer(self._take(stream, header.item_bytes), header.dtype)
        except BaseException:  # the stream's position is unknown
            self._close()
            raise
        if index + 1 == header.shape[0]:
            self._close()
        return values.reshape(header.shape[1:])

    def _start(self) -> IO[bytes]:
        self._close()
        archive = self._open.enter_context(zipfile.ZipFile(self._path))
        self._stream = self._open.enter_context(archive.open(self._name))
        return self._stream

    def _close(self) -> None:
        self._stream, self._at = None, 0
        self._open.close()

    def __del__(self) -> None:
        self._close()

    def _take(self, stream: IO[bytes], count: int) -> bytes:
        data = stream.read(count)
        self._at += len(data)
        if len(data) < count:
            raise EOFError(f"it ends after {self._at} bytes, expected {self._header.nbytes}")
        return data


def _read_header(stream: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise InputError(f"an array file of version {version}, expected one of {[*_READERS]}")
    shape, fortran, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise InputError("an array of Python objects, which only unpickling would read; save numbers")
    if min(shape, default=0) < 1:
        raise InputError(f"an empty array, of shape {shape}")
    return _Header(shape, dtype, fortran, stream.tell())


def _check_bytes(header: _Header, there: int) -> None:
    if header.nbytes > there:
        raise InputError(
            f"{there} bytes, expected {header.nbytes} for {header.dtype} of shape {header.shape}; "
            "copy it again"
        )


class FlowArray:
    """Flow of a whole clip in an array (n, 2, H, W), or of one field, (2, H, W); u and v may be last.

    Raises
    ------
    InputError
        The array has another dtype or shape, or more fields or pixels than are read.
    """

    def __init__(self, array: ItemArray) -> None:
        shape = array.shape[-3:]
        if not is_flow(array):
            raise InputError(
                f"{array.name}: expected flow, floats of shape (n, 2, H, W) or (2, H, W), or with the 2 "
                f"last; got {array}"
            )
        self._array = array
        # (2, H, W) where both would do: it is what we write.
        self._last = shape[0] != 2
        self.whole = len(array.shape) == 4
        """True if there is an axis of fields."""
        self.count = array.shape[0] if self.whole else 1
        """Number of fields."""
        self.size = (shape[0], shape[1]) if self._last else (shape[1], shape[2])
        """(height, width), px."""
        _check_amount(array, self.count, self.size)

    def field(self, index: int = 0) -> Flow:
        """Return one field, float32 (2, H, W), px; NaN in u and v where one is no number or beyond 1e9.

        Raises
        ------
        InputError
            The file was cut or is damaged there.
        """
        if self.whole:
            values = self._array.item(index)
        else:
            values = np.stack([self._array.item(k) for k in range(self._array.shape[0])])
        with np.errstate(over="ignore"):  # beyond float32 it is infinite, so unknown
            flow = np.array(values.transpose(2, 0, 1) if self._last else values, np.float32, order="C")
        mark_unknown(flow)
        return flow


def is_flow(array: ItemArray) -> bool:
    """Return whether an array has the dtype and a shape of flow."""
    axes = array.shape[-3:]
    return array.dtype.kind == "f" and len(array.shape) in (3, 4) and 2 in (axes[0], axes[2])


def open_flow(path: Path) -> FlowArray:
    """Open an array of flow, of a .npy or .npz; of several in one that which is called `flow`.

    Raises
    ------
    InputError
        As `open_array` and `FlowArray`.
    OSError
        It cannot be read.
    """
    return FlowArray(open_array(path, "flow"))


def parse_npy(data: bytes, *, name: str = "these bytes") -> FlowArray:
    """Return the flow in the bytes of a .npy; `name` is for messages.

    Raises
    ------
    InputError
        They are no array of flow, or fewer than their header claims.
    """
    try:
        header = _read_header(io.BytesIO(data))
        _check_bytes(header, len(data))
        flat = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset)
        values = flat.reshape(header.shape, order="F" if header.fortran else "C")
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except _DAMAGE as error:
        raise InputError(f"{name}: {_NO_ARRAY}: {error}") from error
    return FlowArray(ItemArray(name, header, values.__getitem__))


def _check_amount(array: ItemArray, count: int, size: tuple[int, int]) -> None:
    """Raise InputError where an array of so many items of (height, width) is more than is read."""
    if count > MOST_ITEMS or math.prod(size) > MOST_PIXELS:
        raise InputError(
            f"{array.name}: {count} items of {size[1]}x{size[0]} px; at most {MOST_ITEMS} of {MOST_PIXELS} "
            "px are read"
        )


def open_frames(path: Path) -> ItemArray:
    """Open an array of frames, uint8 (n, H, W, 3) RGB, of a .npy or .npz.

    Raises
    ------
    InputError
        As `open_array`; or it has another dtype or shape, or more frames or pixels than are read.
    """
    array = open_array(path, "frames")
    if array.dtype != np.uint8 or len(array.shape) != 4 or array.shape[3] != 3:
        raise InputError(f"{array.name}: expected frames, uint8 of shape (n, H, W, 3); got {array}")
    _check_amount(array, array.shape[0], (array.shape[1], array.shape[2]))
    return array


def read_frame(array: ItemArray, index: int) -> UInt8:
    """Return one frame of `open_frames`, uint8 (H, W, 3)."""
    return np.ascontiguousarray(array.item(index), np.uint8)


def mark_unknown(flow: Flow) -> None:
    """Write NaN into u and v, float32 (2, H, W), where either is no number, infinite or beyond 1e9 px."""
    # A comparison that is false for NaN too: either component unknown makes the pixel unknown.
    known = (np.abs(flow) <= KNOWN_PX).all(axis=0)
    flow[:, ~known] = np.nan


def npy_bytes(flow: Flow) -> bytes:
    """Return the bytes of a .npy of one field, float32 (2, H, W)."""
    stream = io.BytesIO()
    np.save(stream, flow, allow_pickle=False)
    return stream.getvalue()
