"""Flow of pairs among RGB frames in memory, by any method."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike

from flowkit.frames import to_grey
from flowkit.methods import flow_method
from flowkit.typing import Flow
from flowkit.validate import check_array, check_at_least


def flow_batch(
    frames: ArrayLike,
    pairs: ArrayLike,
    *,
    method: str = "tvl1",
    batch_size: int | None = None,
    threads: int | None = None,
) -> Flow:
    """Compute the optical flow of many pairs among the same RGB frames, as `extract` does.

    Parameters
    ----------
    frames : uint8 array, (n, H, W, 3)
        RGB, red first; methods that take grey see `cv2.cvtColor`'s.
    pairs : int array, (m, 2)
        Rows (k, l): the flow from frame k to frame l.
    method : str
        "tvl1", "dis", "farneback", one of these with a preset ("dis/fast"), or "package.module:function".
    batch_size : int, optional
        Pairs of one call of a function of one's own, >= 1; default: what it says itself, else 8.
    threads : int, optional
        Pairs in work at once; the result does not depend on it. Default: the cores that
        this process may use.

    Returns
    -------
    float32 array, (m, 2, H, W)
        u to the right, then v downwards; px per frame step.

    Raises
    ------
    InvalidParameterError
        Frames or pairs of a wrong shape, dtype or range; no such method or preset.
    BackendError
        The method cannot run here, or fails.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.zeros((3, 48, 64, 3), np.uint8)
    >>> flow_batch(frames, [(0, 1), (1, 2)], method="dis/fast").shape
    (2, 2, 48, 64)
    """
    rgb = np.asarray(frames)
    check_array("frames", rgb, ("n", "H", "W", 3), dtype=np.uint8, allow_empty=False)
    count = len(os.sched_getaffinity(0)) if threads is None else threads
    check_at_least("threads", count, 1)
    chosen = flow_method(method, batch_size=batch_size)
    images = np.stack([to_grey(frame) for frame in rgb]) if chosen.images == "grey" else rgb
    return chosen.load().flow_batch(images, pairs, threads=count)
