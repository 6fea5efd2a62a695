"""Windows of a clip: ranges of its frames, and their times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowkit.validate import check_integer


def frame_windows(n_frames: int, window: int, *, stride: int) -> list[range]:
    """Return the windows of a clip: ranges of its frames.

    They start at 0, stride, 2 stride, ...; the last is the last that fits wholly, so that up to stride - 1
    frames at the end are in none. A clip with fewer frames than a window is one window.

    Parameters
    ----------
    n_frames
        Of the clip.
    window, stride
        Frames of a window, and from the start of one to that of the next, >= 1.
    """
    check_integer("window", window, 1, unit="frames")
    check_integer("stride", stride, 1, unit="frames")
    count = max(1, (n_frames - window) // stride + 1)
    return [range(first, min(first + window, n_frames)) for first in range(0, count * stride, stride)]


def frames_seconds(pts: NDArray[np.float64], frames: range) -> tuple[float, float]:
    """Return the time of the first of some frames, and the time at which the last one ends, s.

    A frame ends with the next one's start; the last of a clip lasts as long as its frames do on average.

    Parameters
    ----------
    pts
        float64 (n_frames,), seconds: `Clip.pts`.
    frames
        One or more, within the clip.
    """
    if frames.stop < len(pts):
        return float(pts[frames.start]), float(pts[frames.stop])
    mean = float(pts[-1] - pts[0]) / max(1, len(pts) - 1)
    return float(pts[frames.start]), float(pts[-1]) + mean
