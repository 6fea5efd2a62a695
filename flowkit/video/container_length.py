"""The length of an MP4's or QuickTime file's tracks as shown: OpenCV counts hidden frames too."""

from __future__ import annotations

import struct
from pathlib import Path

from flowkit.video.container_orientation import boxes, read_movie, video_tracks

# All ones, in 32 bits.
_UNKNOWN = (1 << 32) - 1


def shown_seconds(path: Path) -> float | None:
    """Return how long the only video track of an MP4 or QuickTime file is shown, after its edit list.

    None stands for several tracks, one that does not say, and other containers.
    """
    try:
        movie = read_movie(path)
        header = next(box for name, box in boxes(movie) if name == b"mvhd")
        (scale,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
        (track,) = video_tracks(movie)
        head = next(box for name, box in boxes(track) if name == b"tkhd")
        form, start = (">Q", 28) if head[0] == 1 else (">I", 20)
        (duration,) = struct.unpack_from(form, head, start)
    except (struct.error, IndexError, ValueError, StopIteration):
        return None
    return duration / scale if scale and 0 < duration < _UNKNOWN else None
