"""Resources of reading in one process: open files, and memory that is reused.

HDF5 handles are opened anew after a fork; descriptors of `direct_video` stay valid on both sides.
"""

from __future__ import annotations

import atexit
import ctypes
import dataclasses
import functools
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from flowkit.errors import StoreError
from flowkit.remote import Location, RemotePath
from flowkit.store.open_file import StoreFile, object_name, open_file, open_object, open_remote
from flowkit.store.read.direct_video import CannotRead, DirectFile
from flowkit.store.schema import StoreOptions
from flowkit.store.video_table import VideoTable

Source: TypeAlias = Location | BinaryIO
AccessMethod: TypeAlias = Literal["auto", "h5py"]
"""Access method: "auto" reads by address if the index allows it, else as "h5py", through HDF5."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT_BYTES = 32 << 20

_all_handles: weakref.WeakSet[Handles] = weakref.WeakSet()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """The access method of a store, and the reason for the slower one."""

    method: Literal["pread", "h5py"]
    """`pread`: by address and libdeflate; `h5py`: through HDF5, slower and under its lock."""
    reason: str = ""
    """Reason for reading through HDF5; empty for `pread`."""

    def __str__(self) -> str:
        return f"{self.method} ({self.reason})" if self.reason else self.method


class Handles:
    """The files of one store.

    Parameters
    ----------
    source
        The store's path or address, or a file object that can seek.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = str(source) if isinstance(source, Location) else object_name(source)
        self._forked = False
        self._lock = threading.RLock()
        self._closed = False
        self._hdf5: dict[Location | None, StoreFile] = {}
        self._direct: dict[Location | None, DirectFile | CannotRead] = {}
        self._inherited: list[dict[Location | None, StoreFile]] = []
        _all_handles.add(self)

    def renew(self) -> None:
        """Let a forked process open its own HDF5 handles: the parent's have common state with it."""
        # Another thread may have held the lock when this process was forked.
        self._lock = threading.RLock()
        self._inherited.append(self._hdf5)  # closing them here could wait for HDF5's own lock
        self._hdf5 = {}
        self._forked = True

    def hdf5(self, shard: Location | None = None) -> StoreFile:
        """Return the open HDF5 file of a shard, or with None of the store itself."""
        with self._lock:
            self._check_open()
            if self._forked and not isinstance(self.source, Location):
                self.source = _copied(self.source, self.name)
            self._forked = False
            if shard not in self._hdf5:
                self._hdf5[shard] = self._opened(shard)
            return self._hdf5[shard]

    def direct(
        self, shard: Location | None, table: Callable[[StoreFile], VideoTable], options: StoreOptions
    ) -> DirectFile | CannotRead:
        """Return a file to read by address, or the reason why not; `table` reads its `/index/videos`."""
        found = self._direct.get(shard)
        if found is not None and not self._closed:
            return found
        with self._lock:
            file = self.hdf5(shard)
            if shard not in self._direct:
                try:
                    self._direct[shard] = DirectFile(file, table(file), options)
                except CannotRead as reason:
                    # Without its stack frames, which form a reference cycle with h5py's objects: collecting
                    # one on fsspec's thread, while HDF5's lock waits for that thread, deadlocks.
                    self._direct[shard] = reason.with_traceback(None)
            return self._direct[shard]

    def close(self) -> None:
        """Close all; nothing can be read afterwards."""
        with self._lock:
            self._closed = True
            for file in self._hdf5.values():
                file.close()
            for direct in self._direct.values():
                if isinstance(direct, DirectFile):
                    direct.close()
            self._hdf5, self._direct = {}, {}

    def _opened(self, shard: Location | None) -> StoreFile:
        source = self.source if shard is None else shard
        if isinstance(source, Path):
            return open_file(source)
        return open_remote(source) if isinstance(source, RemotePath) else open_object(source)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.name} is closed; open it again to read from it")


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc keep up to 64 MB of freed memory a thread; return whether it can.

    glibc returns a large array's pages to the kernel when it is freed, and each page costs a fault
    when the next array touches it. Threads suffer most: reading clips on two threads took 1.0 ms of
    CPU time a segment with glibc's own thresholds and .81 ms with these (.75 ms on one thread).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT_BYTES))


def _copied(source: BinaryIO, name: str) -> BinaryIO:
    """Copy a file object for this process: the parent's has the same position in both."""
    try:
        copy: BinaryIO = pickle.loads(pickle.dumps(source))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise StoreError(
            f"{name} was opened as a file object before this process was forked, and it cannot be copied "
            f"({error}); open the store in this process, or by its path"
        ) from error
    return copy


def _renew_all() -> None:
    for handles in _all_handles:
        handles.renew()


def _close_file_objects() -> None:
    """Close the stores that HDF5 reads through Python: it would call that after its end."""
    for handles in list(_all_handles):
        if not isinstance(handles.source, Path):
            handles.close()


os.register_at_fork(after_in_child=_renew_all)
atexit.register(_close_file_objects)
