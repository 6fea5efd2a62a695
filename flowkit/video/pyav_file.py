"""A file opened by PyAV, and the stream of it that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from flowkit.errors import NoVideoStreamError, UnopenableError

# A title in another encoding than UTF-8 shall not cost the video. PyAV 19 takes any and lacks the argument.
_TITLES_IN_ANY_ENCODING: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)


def open_container(path: Path, **options: str) -> InputContainer:
    """Open a file, no address, with options of FFmpeg; a title in any encoding.

    Raises
    ------
    UnopenableError
        It is empty, or FFmpeg does not know it.
    OSError
        It cannot be looked at.
    """
    if path.stat().st_size == 0:
        raise UnopenableError(f"{path}: the file is empty")
    try:
        # "file:" keeps a colon in the name from being read as a protocol; the white list keeps a
        # playlist that poses as a video from opening addresses.
        all_options = {"protocol_whitelist": "file", **options}
        container: InputContainer = av.open(f"file:{path}", options=all_options, **_TITLES_IN_ANY_ENCODING)
        return container
    except (av.error.FFmpegError, UnicodeError, ValueError) as error:
        raise UnopenableError(f"{path}: not a video that FFmpeg can open: {message(error)}") from error


def best_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the default stream, of several the largest, of equals FFmpeg's choice; no cover art.

    Raises
    ------
    NoVideoStreamError
        There is none.
    UnopenableError
        None has a decoder here.
    """
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = sorted({stream.type for stream in container.streams})
        raise NoVideoStreamError(f"{path}: no video stream, only {', '.join(kinds) or 'an empty container'}")
    # A codec that is damaged, or not in this FFmpeg, leaves a stream without a decoder, and without a size.
    decodable = [s for s in moving if s.codec_context is not None]
    if not decodable:
        raise UnopenableError(f"{path}: the codec of its video stream is unknown, or not in this FFmpeg")
    best = container.streams.best("video")
    return max(
        decodable,
        key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, s is best),
    )


def message(error: Exception) -> str:
    """Return FFmpeg's own words for an error."""
    return getattr(error, "strerror", None) or str(error)
