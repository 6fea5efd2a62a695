"""The videos in a tar archive, plain or compressed, of this machine or at an address.

An archive may come from anywhere. Only plain members are read; a link, a device, a sparse member or a path
that leads out of the archive is refused if its name is that of a video, and the others are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import lzma
import math
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, cast

from flowkit.errors import InputError
from flowkit.extraction.held import Compression, HeldVideo, location_bytes, open_location, unpacking
from flowkit.extraction.search import SYSTEM_FOLDERS
from flowkit.remote import Location
from flowkit.store.record import MAX_ID_BYTES, encode_video_id
from flowkit.video.reader import VIDEO_SUFFIXES

_ENDINGS: dict[str, Compression] = {
    ".tar": "",
    **dict.fromkeys((".tar.gz", ".tgz"), "gz"),
    **dict.fromkeys((".tar.bz2", ".tbz2"), "bz2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
}
# Headers claim lengths of names and maps, which tarfile reads at once.
_MOST_HEADER_BYTES = 16 << 20
_LATEST_NS = 1 << 62
# Of a damaged or hostile archive; zlib's, lzma's and tarfile's own have no common class.
_ERRORS = (
    *(tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError),
    *(ValueError, IndexError, OverflowError, MemoryError, RecursionError),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldVideos:
    """Videos of an input with their paths in it, and what else is there.

    Attributes
    ----------
    videos : tuple of (str, HeldVideo)
    notes : tuple of str
        On what somebody may miss.
    """

    videos: tuple[tuple[str, HeldVideo], ...]
    notes: tuple[str, ...] = ()


def tar_compression(name: str) -> Compression | None:
    """Return the compression of an archive by its name; None for a name of no archive."""
    endings = (ending for ending in sorted(_ENDINGS, key=len, reverse=True) if name.lower().endswith(ending))
    ending = next(endings, None)
    return None if ending is None else _ENDINGS[ending]


def tar_videos(location: Location, compression: Compression) -> HeldVideos:
    """List the videos in an archive; of two members of one name the later counts, as tar unpacks them.

    Raises
    ------
    InputError
        It is no archive.
    OSError
        It cannot be read.
    """
    # Of a plain archive only the headers are read.
    with open_location(location, access="sequential" if compression else "random") as packed:
        listing = _Listing(location, compression, location_bytes(packed))
        try:
            for member in _members(_Headers(unpacking(packed, compression))):
                listing.add(member)
        except _ERRORS as error:
            if isinstance(error, OSError) and error.errno:
                raise
            if not listing.count:
                raise InputError(f"{location} is no tar archive: {error}") from error
            what = f"damaged behind member {listing.count} ({error}); the rest is missing"
            listing.damage = f"{location}: {what}"
    return listing.found()


def _members(headers: _Headers) -> Iterator[tarfile.TarInfo]:
    """Yield the members in the order of the archive; one that leads back ends it."""
    with tarfile.open(fileobj=cast(IO[bytes], headers), mode="r:", errorlevel=2) as archive:
        end = -1
        while True:
            headers.budget = _MOST_HEADER_BYTES
            member = archive.next()
            if member is None:
                return
            if member.size < 0 or member.offset_data <= end:
                raise tarfile.ReadError("a member leads back to an earlier one")
            end = member.offset_data
            yield member
            archive.members.clear()  # type: ignore[attr-defined]


class _Listing:
    """The members of an archive, by kind."""

    def __init__(self, location: Location, compression: Compression, archive_bytes: int) -> None:
        self._location, self._compression, self._bytes = location, compression, archive_bytes
        self._videos: dict[str, HeldVideo] = {}
        self._others: Counter[str] = Counter()
        self.count = 0
        self.damage = ""

    def add(self, member: tarfile.TarInfo) -> None:
        """Take the next member."""
        self.count += 1
        path = PurePosixPath(member.name)
        if member.isdir():
            return
        hidden = any(part.startswith(".") and part != ".." for part in path.parts)
        if hidden or path.suffix.lower() not in VIDEO_SUFFIXES or set(path.parts) & set(SYSTEM_FOLDERS):
            self._others["hidden" if hidden else path.suffix.lower() or "without a suffix"] += 1
            return
        refusal = _refusal(member, path)
        self._videos[self._refused_name(member.name) if refusal else str(path)] = HeldVideo(
            name=encode_video_id(f"{self._location}/{member.name}"),
            location=self._location,
            nbytes=member.size,
            stamp=_time_ns(member.mtime),
            offset=member.offset_data,
            compression=self._compression,
            archive_bytes=self._bytes,
            refusal=refusal,
        )

    def found(self) -> HeldVideos:
        """Return the videos, and notes on the others."""
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self._others.items()))
        left_out = f"{self._location}: no videos and left out: {counts}" if counts else ""
        return HeldVideos(
            videos=tuple(self._videos.items()), notes=tuple(filter(None, (self.damage, left_out)))
        )

    def _refused_name(self, name: str) -> str:
        """Return an id for a member whose own is not to be trusted: it fails alone, whatever it is called."""
        digest = hashlib.sha256(f"{self._location}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"refused-{digest[:16]}"


def _refusal(member: tarfile.TarInfo, path: PurePosixPath) -> str:
    """Return the reason why a member is not read; "" for none."""
    if member.issym() or member.islnk():
        return "it is a link in the archive"
    if not member.isreg():
        return "it is a device or pipe in the archive"
    if member.issparse():
        return "it is a sparse member, which a few bytes unfold to any size"
    if path.is_absolute() or ".." in path.parts:
        return "its path leads out of the archive"
    if "\0" in member.name or len(encode_video_id(str(path)).encode()) > MAX_ID_BYTES:
        return f"its path is none that an id can have: at most {MAX_ID_BYTES} bytes, without NUL"
    return ""


def _time_ns(seconds: float) -> int:
    if not math.isfinite(seconds):
        return 0
    return max(0, min(_LATEST_NS, int(seconds * 1_000_000_000)))


class _Headers(io.RawIOBase):
    """The bytes of an archive for tarfile, which reads headers through it and no member's contents."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.budget = _MOST_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """Return bytes, as many as headers may have."""
        self.budget -= size
        if size < 0 or self.budget < 0:
            raise tarfile.ReadError(f"a header of more than {_MOST_HEADER_BYTES} bytes")
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, and return the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()
