"""Detection of videos by their content: files whose suffix says nothing."""

from __future__ import annotations

import importlib
import stat
from pathlib import Path

from flowkit.errors import VideoError

_HEAD_BYTES = 4096

# Demuxers of FFmpeg that take files of other kinds: text shown as a terminal would, still images, playlists.
_NO_VIDEO = frozenset({"tty", "image2", "hls", "concat", "ffmetadata", "sdp", "webvtt", "srt", "ass"})
_ENOUGH_BYTES = 1 << 16


def is_video_file(path: Path) -> bool:
    """Return whether a file's content is a video, whatever its suffix.

    A cheap test: text is none by its first bytes; of other files PyAV reads the header. The result is False
    also for still images, sound with a cover, what is no file (a FIFO would be waited for), and files that
    cannot be read; and for all files where `can_detect` is.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if not head or _is_text(head):
        return False
    return can_detect() and _has_video_stream(path)


def can_detect() -> bool:
    """Return whether content can be looked at here: with PyAV."""
    try:
        importlib.import_module("flowkit.video.pyav")
    except ImportError:
        return False
    return True


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        # The last character may be cut.
        head[:-4].decode() if len(head) == _HEAD_BYTES else head.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_video_stream(path: Path) -> bool:
    import av

    from flowkit.video.pyav_file import best_stream, open_container

    try:
        with open_container(path, probesize=str(_ENOUGH_BYTES)) as container:
            names = set(container.format.name.split(","))
            if names & _NO_VIDEO or any(name.endswith("_pipe") for name in names):
                return False
            best_stream(container, path)
    except (av.FFmpegError, VideoError, OSError, ValueError):
        return False
    return True
