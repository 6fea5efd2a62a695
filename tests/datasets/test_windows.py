"""Windows of a clip and their times."""

from __future__ import annotations

import numpy as np
import pytest

from flowkit.datasets.windows import frame_windows, frames_seconds
from flowkit.errors import InvalidParameterError


def test_windows_start_at_each_stride_and_fit_wholly() -> None:
    assert frame_windows(12, 4, stride=3) == [range(4), range(3, 7), range(6, 10)]
    assert frame_windows(13, 4, stride=3)[-1] == range(9, 13)


def test_a_short_clip_is_one_window_of_its_frames() -> None:
    assert frame_windows(3, 16, stride=8) == [range(3)]
    with pytest.raises(InvalidParameterError, match="stride"):
        frame_windows(3, 16, stride=0)


def test_a_window_ends_with_the_next_frame_or_a_mean_frame_later() -> None:
    pts = np.array([0.0, 1.0, 3.0, 6.0])
    assert frames_seconds(pts, range(1, 3)) == (1.0, 6.0)
    assert frames_seconds(pts, range(2, 4)) == (3.0, 8.0)
