"""The names of videos: what an id may be, and what becomes of paths that are not text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flowkit.errors import InputError, InvalidParameterError

MAX_ID_BYTES = 1024
# A segment that is empty, "." or "..", or a NUL anywhere.
_BAD = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|\0")


def check_video_id(video_id: str) -> str:
    """Return `video_id` if it can name a video in a store.

    An id is a relative path of segments joined by `/` ("HandStand/clip_07").

    Raises
    ------
    InvalidParameterError
        It is empty, absolute, too long, not UTF-8, or has a NUL, an empty segment, `.` or `..`.
    """

    def refuse(what: str) -> InvalidParameterError:
        return InvalidParameterError(
            f"video id {video_id!r} {what}; an id is a relative path such as 'HandStand/clip_07'"
        )

    if not isinstance(video_id, str) or not video_id:
        raise refuse("is empty or not a str")
    if video_id.startswith("/"):
        raise refuse("is absolute")
    if _BAD.search(video_id):
        raise refuse("has a NUL, an empty segment, '.' or '..'")
    try:
        size = len(video_id.encode())
    except UnicodeEncodeError:
        raise refuse("is not valid Unicode: pass it through encode_video_id") from None
    if size > MAX_ID_BYTES:
        raise refuse(f"has {size} bytes, more than {MAX_ID_BYTES}")
    return video_id


def encode_video_id(path: str | bytes) -> str:
    """Return a path as text that a store can hold: bytes that are not UTF-8 become `%XX`.

    A path that is valid UTF-8 comes back unchanged; otherwise its literal `%` becomes `%25`.
    """
    try:
        raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = str(path).encode("utf-8", "surrogatepass")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        escaped = raw.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]", lambda hit: f"%{ord(hit[0]) - 0xDC00:02X}", escaped)


def check_id_set(ids: Mapping[str, str]) -> None:
    """Raise InputError if one id is a folder of another: HDF5 would nest their groups.

    Parameters
    ----------
    ids
        Each id and what to call it in the message, such as its source's path.
    """
    for video_id, name in ids.items():
        segments = video_id.split("/")
        for depth in range(1, len(segments)):
            parent = "/".join(segments[:depth])
            if parent in ids:
                raise InputError(
                    f"the id {parent!r} of {ids[parent]} is a folder of the id {video_id!r} of {name}; "
                    "rename one of them or keep the suffixes (--keep-suffix)"
                )
