"""Videos that are no files of this machine: members of tar archives, files at addresses.

A run copies them one by one into a scratch folder of bounded size and removes each after its use. The plan
compares what the archive or the server says of them, so that nothing is fetched that the store has.
"""

from __future__ import annotations

import atexit
import bz2
import contextlib
import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import IO, Final, Literal, TypeAlias, cast

from flowkit import atomic
from flowkit.errors import FlowkitError, UnopenableError
from flowkit.extraction.scratch import Scratch
from flowkit.remote import AccessPattern, Location
from flowkit.store.record import SourceFingerprint

Compression: TypeAlias = Literal["", "gz", "bz2", "xz"]

NO_TIME: Final = -1
"""`stamp` of a file whose server gives neither time nor tag: its contents decide whether it is the same."""

_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldVideo:
    """A video in an archive or at an address.

    Attributes
    ----------
    name : str
        Its name in messages and in the store: the archive or address as it was given, and the path there.
    location : Location
        The archive, or the file itself.
    nbytes : int
        Its size.
    stamp : int
        Its modification time, ns since 1970; below 0 it is a number made of a server's ETag, or `NO_TIME`.
    offset : int or None
        First byte of a member in the unpacked archive; None: all of the file at `location`.
    compression : {"", "gz", "bz2", "xz"}
        Of the archive.
    archive_bytes : int
        Size of the archive when it was listed, to notice another.
    refusal : str
        Reason why it is not read: a link, a path that leads out of the archive. "" for none.
    """

    name: str
    location: Location
    nbytes: int
    stamp: int
    offset: int | None = None
    compression: Compression = ""
    archive_bytes: int = 0
    refusal: str = ""

    @property
    def order(self) -> tuple[str, int]:
        """The archive and the position there, in whose order members are read without going back."""
        return str(self.location), self.offset or 0


def held_state(video: HeldVideo, *, with_hash: bool = True) -> SourceFingerprint:
    """Return the state of a video: size, time, SHA-256; see `flowkit.extraction.plan.fingerprint`.

    A time that nobody knows is unlike that of each stored state, so that the hashes decide.

    Raises
    ------
    OSError
        It cannot be read.
    """
    digest = ""
    if with_hash:
        whole = hashlib.sha256()
        for block in blocks(video):
            whole.update(block)
        digest = whole.hexdigest()
    return _state(video, digest, stamp=NO_TIME - 1 if video.stamp == NO_TIME else video.stamp)


def _state(video: HeldVideo, digest: str, *, stamp: int) -> SourceFingerprint:
    return SourceFingerprint(name=video.name, bytes=video.nbytes, mtime_ns=stamp, sha256=digest)


@contextlib.contextmanager
def fetched(
    video: HeldVideo, scratch: Scratch, *, on_beat: Callable[[], None] = lambda: None
) -> Iterator[tuple[Path, SourceFingerprint]]:
    """Yield a video as a file in the scratch folder, and its state; the file is removed at the end.

    `on_beat` is called while there is no room for it, and as it is copied.

    Raises
    ------
    UnopenableError
        It is refused, or larger than the scratch folder may be.
    OSError
        It cannot be read, or has changed since it was listed.
    NoSpaceError
        The disk is full.
    """
    if video.refusal:
        raise UnopenableError(f"{video.name}: {video.refusal}; it was not read")
    if video.nbytes > scratch.limit_bytes:
        raise UnopenableError(
            f"{video.name} has {video.nbytes} bytes, and the scratch folder may have {scratch.limit_bytes}; "
            "allow more with --scratch-size"
        )
    with scratch.room(video.nbytes, PurePath(video.name).suffix, on_beat=on_beat) as path:
        digest = hashlib.sha256()
        with atomic.no_space_translated(path), path.open("r+b") as file:
            for block in blocks(video):
                digest.update(block)
                file.write(block)
                on_beat()
        try:
            yield path, _state(video, digest.hexdigest(), stamp=video.stamp)
        except FlowkitError as error:
            if str(path) not in str(error):
                raise
            raise type(error)(str(error).replace(str(path), video.name)) from error


def reading_order(videos: Sequence[HeldVideo | None]) -> list[int]:
    """Return the positions of videos in an order that reads each compressed archive from front to back.

    Others stay as they are, before those.
    """
    packed = [k for k, video in enumerate(videos) if video is not None and video.compression]
    rest = [k for k, video in enumerate(videos) if video is None or not video.compression]
    return [*rest, *sorted(packed, key=lambda k: cast(HeldVideo, videos[k]).order)]


def blocks(video: HeldVideo) -> Iterator[bytes]:
    """Yield the contents of a video, 1 MiB at most at a time.

    Raises
    ------
    OSError
        It cannot be read, or is not as long as when it was listed.
    """
    if not video.compression:
        with _opened(video) as file:
            yield from _checked(file, video)
        return
    with _unpacked.lock:
        try:
            yield from _checked(_unpacked.file(video), video)
        except BaseException:  # its position is unknown
            _unpacked.close()
            raise


def _checked(file: IO[bytes], video: HeldVideo) -> Iterator[bytes]:
    changed = OSError(f"{video.name} is not as it was listed: cut short, or changed since; run this again")
    left = video.nbytes
    try:
        if video.offset is not None:
            file.seek(video.offset)
        while left:
            block = file.read(min(_BLOCK_BYTES, left))
            if not block:
                raise changed
            left -= len(block)
            yield block
        if video.offset is None and file.read(1):
            raise changed
    except (EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise OSError(f"{video.name} cannot be unpacked: {error}") from error


def _opened(video: HeldVideo) -> IO[bytes]:
    """Open the archive or file of a video.

    Raises
    ------
    OSError
        It is another than was listed.
    """
    file = open_location(video.location)
    if video.offset is not None and location_bytes(file) != video.archive_bytes:
        file.close()
        raise OSError(f"{video.location} has changed since it was listed; run the same command again")
    return file


def open_location(location: Location, *, access: AccessPattern = "sequential") -> IO[bytes]:
    """Open a file of this machine or at an address."""
    file = location.open("rb") if isinstance(location, Path) else location.open(access=access)
    return cast(IO[bytes], file)


def location_bytes(file: IO[bytes]) -> int:
    """Return the size of an open file, whose position becomes its start."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def unpacking(file: IO[bytes], compression: Compression) -> IO[bytes]:
    """Return the unpacked contents of an open file."""
    if compression == "gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb"))
    if compression == "bz2":
        return cast(IO[bytes], bz2.BZ2File(file, "rb"))
    return cast(IO[bytes], lzma.LZMAFile(file, "rb")) if compression == "xz" else file


class _Unpacked:
    """The compressed archive that this process read last, open at its position: going back starts anew."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._key: object = None
        self._files: tuple[io.IOBase | IO[bytes], ...] = ()

    def file(self, video: HeldVideo) -> IO[bytes]:
        """Return the unpacked archive of a video."""
        key = (video.location, video.archive_bytes, os.getpid())
        if key != self._key:
            self.close()
            packed = _opened(video)
            self._files = (unpacking(packed, video.compression), packed)
            self._key = key
        return cast(IO[bytes], self._files[0])

    def close(self) -> None:
        """Close the archive."""
        for file in self._files:
            file.close()
        self._key, self._files = None, ()


_unpacked = _Unpacked()
atexit.register(_unpacked.close)
