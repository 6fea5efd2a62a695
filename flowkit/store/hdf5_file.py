"""HDF5 files being written: failed writes raise here, attributes have one form.

HDF5 itself may crash over a failed write: a flush that fails while HDF5 closes a file ends in a
segmentation fault (HDF5 2.0 with h5py 3.16: a full disk kills the process). So HDF5 writes through
`OutFile`, which remembers the first failure and accepts everything after it; the writer checks for
that failure before the file is committed. A signal's handler that raises in one of these calls would be such
a failure too: `uninterrupted` puts it off.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.store.record import Attributes
from flowkit.store.schema import LIBVER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

HEAD_BYTES = 1 << 20
"""A new file is held in memory up to this size: HDF5 writes that of a short video in some seventy pieces."""


def is_interruptible() -> bool:
    """Return whether a signal's handler may raise here: workers of a run hear none."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return any(callable(signal.getsignal(number)) for number in _INTERRUPTS)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off the handlers of SIGINT and SIGTERM, as KeyboardInterrupt's, until HDF5 is through.

    HDF5 calls Python to write, and Python runs handlers in its main thread before its next instruction: what
    one raises there is a failed write to HDF5, or the error of an unrelated look-up.
    """
    if not is_interruptible():
        yield
        return
    came: list[int] = []
    found = [(number, signal.getsignal(number)) for number in _INTERRUPTS]
    handlers = [(number, handler) for number, handler in found if callable(handler)]
    try:
        for number, _ in handlers:
            signal.signal(number, lambda one, _: came.append(one))
        yield
    finally:
        _restore(handlers)
        for one in dict.fromkeys(came):
            signal.raise_signal(one)


def _restore(handlers: Sequence[tuple[signal.Signals, Any]]) -> None:
    """Set handlers, each even where a signal that comes meanwhile raises through the one before it."""
    if handlers:
        try:
            signal.signal(*handlers[0])
        finally:
            _restore(handlers[1:])


class OutFile(io.RawIOBase):
    """A file for HDF5 whose writes never fail; `check` raises the first failure."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__()
        self._path = path
        self.error: OSError | None = None
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if mode == "w" else 0)
        self._descriptor = os.open(path, flags, 0o666)
        self._at = 0
        self._head: bytearray | None = bytearray() if mode == "w" else None

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.error is not None:
            raise OSError(self.error.errno, self.error.strerror, str(self._path)) from self.error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position; the end is that of the file on disk."""
        if whence == os.SEEK_END:
            offset += os.fstat(self._descriptor).st_size if self._head is None else len(self._head)
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`, or remember the failure."""
        view, at, head = memoryview(data), self._at, self._head
        done, end = 0, at + len(view)
        if head is not None and end <= HEAD_BYTES:
            if end > len(head):
                head.extend(bytes(end - len(head)))
            head[at:end] = view
            self._at = end
            return end - at
        if head is not None:
            self._flush_head()
        with self._noted():
            while self.error is None and done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self._at + done)
        self._at += len(view)
        return len(view)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read back; bytes that were never written are zero."""
        view = memoryview(buffer)
        found: bytes | bytearray = b""
        if self._head is not None:
            found = self._head[self._at : self._at + len(view)]
            view[:] = found + bytes(len(view) - len(found))
            self._at += len(view)
            return len(view)
        with self._noted():
            found = os.pread(self._descriptor, len(view), self._at)
        view[:] = found + bytes(len(view) - len(found))
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or remember the failure."""
        size = self._at if size is None else size
        if self._head is not None and size > HEAD_BYTES:
            self._flush_head()
        if self._head is not None:
            del self._head[size:]
            self._head.extend(bytes(size - len(self._head)))
            return size
        with self._noted():
            if self.error is None:
                os.ftruncate(self._descriptor, size)
        return size

    def sync(self) -> None:
        """Flush what was written to the disk, or remember the failure."""
        self._flush_head()
        with self._noted():
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file; a failure that a network file system reports only now is remembered too."""
        if not self.closed:
            self._flush_head()
            with self._noted():
                os.close(self._descriptor)
        super().close()

    def _flush_head(self) -> None:
        """Write what is held in memory; from now on all goes to the file."""
        head, self._head = self._head, None
        if head and self.error is None:
            at, self._at = self._at, 0
            self.write(head)
            self._at = at

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


class Hdf5Writer:
    """An HDF5 file being written.

    Parameters
    ----------
    path
        The file, a temporary.
    mode
        `w` makes it, `r+` changes it.
    """

    def __init__(self, path: Path, mode: str = "w") -> None:
        self._out = OutFile(path, mode)
        self.file: h5py.File = h5py.File(self._out, mode, libver=LIBVER)

    def check(self) -> None:
        """Raise the first failure below HDF5 so far, if any."""
        self._out.check()

    @property
    def failed(self) -> bool:
        """True if `check` raises."""
        return self._out.error is not None

    def sync(self) -> None:
        """Flush what HDF5 has written so far to the disk."""
        self._out.sync()

    def finish(self) -> None:
        """Close the file and raise the first failure of all, if any."""
        self.file.close()
        self._out.close()
        self._out.check()

    def abandon(self) -> None:
        """Close a file that will not be kept."""
        self._out.error = self._out.error or OSError("abandoned")
        # The failure that brought us here is the one to report.
        with uninterrupted():
            with contextlib.suppress(OSError, RuntimeError):
                self.file.close()
            self._out.close()


@contextlib.contextmanager
def hdf5_writer(path: Path, mode: str = "w") -> Iterator[h5py.File]:
    """Yield an HDF5 file to write; at the end it is closed and whole, or an error is raised.

    Interrupts are put off until then.
    """
    with uninterrupted():
        writer = Hdf5Writer(path, mode)
        try:
            try:
                yield writer.file
            finally:
                writer.check()  # before HDF5's own error over the failed write, if it raised one
            writer.finish()
        except BaseException:  # Ctrl-C too: nothing stays open
            writer.abandon()
            raise


_HEADER_ATTRIBUTES = 64
"""More attributes than a video has; beyond HDF5's own limit of 8 they get a heap and an index of their own,
which took 1.6 kB a video and a quarter of the time of writing them."""


def create_group(parent: h5py.Group, path: str) -> h5py.Group:
    """Create a group, and those above it that are missing, that keeps its attributes in its header."""
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    properties = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    properties.set_attr_phase_change(_HEADER_ATTRIBUTES, 0)
    return h5py.Group(h5py.h5g.create(parent.id, path.encode(), lcpl=links, gcpl=properties))


class DatasetCreator:
    """Creates datasets in a group: what `h5py.Group.create_dataset` does too, in half of its time.

    Parameters
    ----------
    group : h5py.Group
    """

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def array(
        self, name: str, values: NDArray[np.number], *, chunk: int | None = None, fill: float | None = None
    ) -> h5py.h5d.DatasetID:
        """Write a 1-D dataset.

        Parameters
        ----------
        name : str
            Of the dataset, below the group.
        values : ndarray (n,)
            Of any number type, stored as it is.
        chunk : int, optional
            Values of a chunk, each chunk with a Fletcher sum; default: stored in one piece, without.
        fill : float, optional
            HDF5's fill value.
        """
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_obj_track_times(False)
        if chunk is not None:
            properties.set_chunk((chunk,))
            properties.set_fletcher32()
        if fill is not None:
            properties.set_fill_value(np.array(fill, values.dtype))
        kind, space = _number_type(values.dtype), h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(self.group.id, name.encode(), kind, space, properties)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, values, kind)
        return made

    def stack(
        self,
        name: str,
        item_shape: tuple[int, ...],
        dtype: np.dtype[np.number],
        *,
        deflate_level: int,
        shuffled: bool,
        fill: float | None,
    ) -> h5py.h5d.DatasetID:
        """Create an empty dataset (0, *item_shape) that can grow, each item a deflated chunk.

        Parameters
        ----------
        name : str
            Of the dataset, below the group.
        item_shape : tuple of int
        dtype : dtype
        deflate_level : int
        shuffled : bool
            Whether the bytes are shuffled before they are deflated.
        fill : float or None
            HDF5's fill value; None is HDF5's own, 0.
        """
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_obj_track_times(False)
        properties.set_chunk((1, *item_shape))
        if shuffled:
            properties.set_shuffle()
        properties.set_deflate(deflate_level)
        if fill is not None:
            properties.set_fill_value(np.array(fill, dtype))
        space = h5py.h5s.create_simple((0, *item_shape), (h5py.h5s.UNLIMITED, *item_shape))
        return h5py.h5d.create(self.group.id, name.encode(), _number_type(dtype), space, properties)


@functools.lru_cache(maxsize=16)
def _number_type(dtype: np.dtype[np.number]) -> h5py.h5t.TypeID:
    return h5py.h5t.py_create(dtype, logical=True)


_DTYPES = {str: h5py.string_dtype("utf-8"), int: np.dtype("<i8"), float: np.dtype("<f8")}
# Made once: making them anew for each attribute took half of the time of writing a video's.
_FILE_TYPES = {kind: h5py.h5t.py_create(dtype, logical=True) for kind, dtype in _DTYPES.items()}
_MEMORY_TYPES = {kind: h5py.h5t.py_create(dtype) for kind, dtype in _DTYPES.items()}


def write_attrs(node: h5py.Group | h5py.Dataset, attrs: Attributes) -> None:
    """Write attributes: text as variable-length UTF-8, numbers as 8 bytes, little-endian."""
    scalar, has_some = h5py.h5s.create(h5py.h5s.SCALAR), h5py.h5a.get_num_attrs(node.id) > 0
    for name, value in attrs.items():
        kind, encoded = type(value), name.encode()
        if has_some and h5py.h5a.exists(node.id, encoded):
            h5py.h5a.delete(node.id, encoded)
        # What `node.attrs.create` does too, without a temporary name: a third of its time.
        made = h5py.h5a.create(node.id, encoded, _FILE_TYPES[kind], scalar)
        made.write(np.array(value, _DTYPES[kind]), _MEMORY_TYPES[kind])
