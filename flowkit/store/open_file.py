"""Open the files of a store for reading, in one process and others together with plain h5py."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import BinaryIO, cast

import h5py

from flowkit.errors import StoreFormatError, StoreNotFoundError
from flowkit.remote import RemotePath
from flowkit.store import refusals
from flowkit.store.checked_hdf5 import contained
from flowkit.store.metadata import Metadata, read_metadata, recover

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
_OTHER_LOCKING = re.compile(r"file locking .*values don't match")


class StoreFile(h5py.File):  # type: ignore[misc]
    """A file of a store, open for reading.

    Attributes
    ----------
    metadata : Metadata
    damage : str
        What is wrong with its block of metadata, where it was recovered; else "".
    """

    metadata: Metadata
    damage: str = ""
    opened: BinaryIO | None = None
    """The file object below it, which is closed with it."""

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self.opened is not None:
            self.opened.close()

    def read_head(self, *, recovers: bool) -> None:
        """Read the metadata; the file is closed if that fails."""
        try:
            with contained(self.filename):
                if recovers:
                    self.metadata, self.damage = recover(self)
                else:
                    self.metadata = read_metadata(self)
        except BaseException:  # Ctrl-C too: nothing stays open
            self.close()
            raise


def open_file(path: Path, *, recovers: bool = False) -> StoreFile:
    """Open a file of a store.

    Parameters
    ----------
    recovers
        A damaged block of metadata is replaced by attributes that its checksum proves; see
        `flowkit.store.metadata.recover`.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreFormatError
        It is no HDF5 file, no flowkit store, or of a newer format.
    StoreCorruptError
        It is cut short or damaged.
    StoreUnreadableError
        The system does not let it be read now.
    """
    with contained(path):
        if not path.exists():
            raise StoreNotFoundError(f"there is no store at {path}")
        if not path.is_file() or not _is_hdf5(path):
            raise StoreFormatError(f"{path} is no HDF5 file, so no flowkit store")
        file = _open(path)
    file.read_head(recovers=recovers)
    return file


def _is_hdf5(path: Path) -> bool:
    """Return whether HDF5 takes a file for its own; raise OSError where it may not be read."""
    with path.open("rb", buffering=0) as stream:
        found = stream.read(len(_SIGNATURE))
    # HDF5 finds it behind a block of the user's too.
    return found == _SIGNATURE or bool(h5py.is_hdf5(path))


def _open(path: Path) -> StoreFile:
    """Open a file with the locking of those who have it open in this process, by default h5py's own.

    HDF5 refuses a file whose locking differs from that of an earlier opening. Where there are no locks
    (some network file systems), it is read without.
    """
    for locking in (None, "best-effort", True):
        try:
            return StoreFile(path, "r", locking=locking)
        except OSError as error:
            if refusals.number(error) in _NO_LOCKS:
                break
            if not _OTHER_LOCKING.search(str(error)):
                raise
    return StoreFile(path, "r", locking=False)


def open_remote(where: RemotePath) -> StoreFile:
    """Open a file of a store at an address of fsspec.

    Raises
    ------
    InputError
        fsspec or a package that it needs is not installed.
    StoreNotFoundError, StoreFormatError, StoreCorruptError, StoreUnreadableError
        As `open_file`.
    """
    with contained(where):
        try:
            source = cast(BinaryIO, where.open(access="random"))
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"there is no store at {where}") from error
        try:
            file = open_object(source)
        except BaseException:  # Ctrl-C too: nothing stays open
            source.close()
            raise
    file.opened = source
    return file


def open_object(source: BinaryIO) -> StoreFile:
    """Open a store from a file object that can seek, such as fsspec's.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        As `open_file`.
    """
    name = object_name(source)
    with contained(name):
        source.seek(0)
        if source.read(len(_SIGNATURE)) != _SIGNATURE:
            raise StoreFormatError(f"{name} is no HDF5 file, so no flowkit store")
        file = StoreFile(source, "r")
    file.read_head(recovers=False)
    return file


def object_name(source: BinaryIO) -> str:
    """Return the name of a file object for messages: its name or path, or its kind."""
    for attribute in ("full_name", "path", "name"):
        name = getattr(source, attribute, None)
        if isinstance(name, str):
            return name
    return f"<{type(source).__name__}>"
