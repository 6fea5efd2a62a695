"""The videos at an address of fsspec: one file, or all below a folder."""

from __future__ import annotations

import calendar
import datetime
import email.utils
import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from flowkit.errors import InputError
from flowkit.extraction.held import NO_TIME, HeldVideo
from flowkit.extraction.search import SYSTEM_FOLDERS
from flowkit.extraction.tar_input import HeldVideos
from flowkit.remote import RemotePath
from flowkit.video.reader import VIDEO_SUFFIXES

_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")
_TAGS = ("ETag", "etag", "Content-MD5", "md5Hash")
_REQUESTS = 16


def address_videos(address: RemotePath) -> HeldVideos:
    """List the videos at an address.

    Raises
    ------
    InputError
        There is nothing, no video, or a package is not installed.
    OSError
        Its server cannot be reached, or refuses.
    """
    try:
        about = {} if address.url.endswith("/") else address.info()
        if about.get("type") == "file":
            return HeldVideos(videos=((_path_of(address, address.name), _held(address, about)),))
        return _below(address)
    except FileNotFoundError as error:
        raise InputError(f"no such file or folder: {address}") from error


def _below(folder: RemotePath) -> HeldVideos:
    found = [(name, about) for name, about in folder.find() if name and about.get("type") != "directory"]
    videos = [(name, about) for name, about in found if _is_video(PurePosixPath(name))]
    others = Counter(
        PurePosixPath(name).suffix.lower() or "without a suffix"
        for name, _ in found
        if not _is_video(PurePosixPath(name))
    )
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    if not videos:
        raise InputError(
            f"no video below {folder}: looked for {', '.join(sorted(VIDEO_SUFFIXES))}; there is: "
            f"{counts or 'no file'}"
        )
    with ThreadPoolExecutor(_REQUESTS) as pool:
        held = list(pool.map(lambda item: _held(folder / item[0], item[1]), videos))
    notes = (f"{folder}: no videos by their names and left out: {counts}",) if counts else ()
    paths = [_path_of(folder, name) for name, _ in videos]
    return HeldVideos(videos=tuple(zip(paths, held, strict=True)), notes=notes)


def _path_of(address: RemotePath, name: str) -> str:
    """Return a name as people read it: those of web servers have `%20` for a space."""
    return unquote(name) if address.url.startswith(("http://", "https://")) else name


def _is_video(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() in VIDEO_SUFFIXES and not set(path.parts) & set(SYSTEM_FOLDERS)


def _held(address: RemotePath, about: Mapping[str, Any]) -> HeldVideo:
    if about.get("size") is None:  # a web server's list has names alone
        about = address.info()
    size = about.get("size")
    return HeldVideo(
        name=str(address),
        location=address,
        nbytes=size or 0,
        stamp=file_stamp(about),
        refusal="its server gives no size; download it and give its path" if size is None else "",
    )


def file_stamp(about: Mapping[str, Any]) -> int:
    """Return when a file was changed, ns since 1970; else a number < -1 of its ETag; else `NO_TIME`."""
    for name in _TIMES:
        seconds = _seconds(about.get(name))
        if seconds is not None:
            return round(seconds * 1_000_000_000)
    tag = next((str(about[name]) for name in _TAGS if about.get(name)), None)
    if tag is None:
        return NO_TIME
    return NO_TIME - 2 - (int.from_bytes(hashlib.sha256(tag.encode()).digest()[:8]) >> 2)


def _seconds(value: object) -> float | None:
    """Return a time as servers and fsspec's file systems give it, seconds since 1970; None for none."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        return None
    parsed = email.utils.parsedate(value)
    if parsed is not None:
        return float(calendar.timegm(parsed))
    try:
        return datetime.datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None
