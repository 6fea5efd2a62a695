"""Flow of RGB frames in memory, by any method."""

from __future__ import annotations

import numpy as np
import pytest

import flowkit
from flowkit.errors import InvalidParameterError
from flowkit.frames import to_grey
from flowkit.methods import METHODS, flow_method
from tests.make.clips import moving_texture

PAIRS = [(0, 1), (2, 0)]


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_take_grey_get_that_of_the_extraction(method: str) -> None:
    frames = moving_texture(3, shift=(1, 0))
    greys = np.stack([to_grey(frame) for frame in frames])
    flow = flowkit.flow_batch(frames, PAIRS, method=method)
    assert np.array_equal(flow, flow_method(method).load().flow_batch(greys, PAIRS))
    assert abs(float(np.median(flow[0, 0])) - 1) < 0.3


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"frames must be non-empty uint8 \(n, H, W, 3\)"):
        flowkit.flow_batch(np.zeros((2, 4, 4), np.uint8), PAIRS, method="dis")
