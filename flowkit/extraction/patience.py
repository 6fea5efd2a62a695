"""The size of a video, and for how long it may get no further."""

from __future__ import annotations

import math

from flowkit.extraction.sources import VideoSource

PATIENCE_S, PATIENCE_BYTES_A_SECOND = 600, 1_000_000
"""With the bytes of a file, the time without a frame after which it counts as hung."""


def patience_seconds(seconds: float | None, nbytes: int) -> float:
    """Return for how many seconds a video may get no further: a hash or a copy of its file is no frame."""
    if seconds is None:
        return PATIENCE_S + nbytes / PATIENCE_BYTES_A_SECOND
    return seconds or math.inf


def source_bytes(source: VideoSource) -> int:
    """Return the size of a file or of the files in a folder, and 1: the weight of a video."""
    if source.held is not None:
        return 1 + source.held.nbytes
    path = source.path
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return 1 + sum(file.stat().st_size for file in files)
    except OSError:
        return 1
