"""DIS and Farnebäck: cv2's own output, bit for bit, and its own presets."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import BackendError, InvalidParameterError
from flowkit.frames import pair_indices
from flowkit.methods import flow_method
from flowkit.methods.opencv_dis import PRESETS as DIS
from flowkit.methods.opencv_farneback import PRESETS as FARNEBACK
from tests.make.clips import moving_texture

UInt8 = NDArray[np.uint8]
CV2_DIS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def farneback(*values: float) -> Callable[[UInt8, UInt8], Any]:
    return lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, *values)  # type: ignore[call-overload]


def dis(preset: int) -> Callable[[UInt8, UInt8], Any]:
    return lambda a, b: cv2.DISOpticalFlow.create(preset).calc(a, b, None)  # type: ignore[call-overload]


# As OpenCV's samples and its class call them; nothing of this is flowkit's.
CV2: dict[str, Callable[[UInt8, UInt8], Any]] = {
    **{f"dis/{name}": dis(preset) for name, preset in CV2_DIS.items()},
    "farneback/samples": farneback(0.5, 3, 15, 3, 5, 1.2, 0),
    "farneback/defaults": lambda a, b: cv2.FarnebackOpticalFlow.create().calc(a, b, None),  # type: ignore[call-overload]
}


def greys(n: int = 5, *, height: int = 120, width: int = 160) -> UInt8:
    frames = moving_texture(n, height=height, width=width, shift=(3, -2))
    return np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames])


@pytest.mark.parametrize("text", CV2)
@pytest.mark.parametrize("size", [(120, 160), (48, 64), (97, 131)])
def test_flow_is_cv2s_bit_for_bit(text: str, size: tuple[int, int]) -> None:
    frames = greys(height=size[0], width=size[1])
    flow = flow_method(text).load().flow_batch(frames, pair_indices(5))
    expected = np.stack([CV2[text](a, b).transpose(2, 0, 1) for a, b in itertools.pairwise(frames)])
    assert flow.dtype == np.float32
    assert np.array_equal(flow, expected)
    assert np.abs(flow).max() > 0.5


@pytest.mark.parametrize("text", CV2)
def test_flow_does_not_depend_on_threads_or_on_earlier_pairs(text: str) -> None:
    frames, solver = greys(), flow_method(text).load()
    solver.flow_batch(greys(2, height=40, width=56), [(0, 1)])
    alone = solver.flow_batch(frames, pair_indices(5))
    assert np.array_equal(alone, solver.flow_batch(frames, pair_indices(5), threads=3))
    assert np.array_equal(alone[2:3], solver.flow_batch(frames, [(2, 3)]))


@pytest.mark.parametrize("name", CV2_DIS)
def test_presets_of_dis_are_cv2s(name: str) -> None:
    theirs = cv2.DISOpticalFlow.create(CV2_DIS[name])
    for field, value in dataclasses.asdict(DIS[name]).items():
        getter = "get" + "".join(word.capitalize() for word in field.split("_"))
        assert getattr(theirs, getter)() == value, field


def test_the_defaults_of_farneback_are_cv2s() -> None:
    theirs, ours = cv2.FarnebackOpticalFlow.create(), FARNEBACK["defaults"]
    assert (theirs.getPyrScale(), theirs.getNumLevels()) == (ours.pyr_scale, ours.levels)
    assert (theirs.getWinSize(), theirs.getNumIters()) == (ours.winsize, ours.iterations)
    assert (theirs.getPolyN(), theirs.getPolySigma()) == (ours.poly_n, ours.poly_sigma)
    assert theirs.getFlags() == ours.flags
    assert not theirs.getFastPyramids()


@pytest.mark.parametrize(
    ("text", "width", "height"),
    [("dis/fast", 200, 12), ("dis/medium", 200, 12), ("dis/fast", 8, 8), ("dis/fast", 300, 7)],
)
def test_frames_that_would_end_the_process_in_cv2_are_refused(text: str, width: int, height: int) -> None:
    message = re.escape(f"method 'dis' cannot take frames of {width}x{height} px: ") + ".* --size"
    with pytest.raises(BackendError, match=message):
        flow_method(text).load().flow_batch(np.zeros((2, height, width), np.uint8), [(0, 1)])


@pytest.mark.parametrize("text", ["dis/medium", "dis/ultrafast"])
@pytest.mark.parametrize(("width", "height"), [(12, 12), (16, 64), (200, 70), (34, 26), (40, 20)])
def test_small_frames_that_cv2_can_take_are_taken(text: str, width: int, height: int) -> None:
    frames = greys(2, height=height, width=width)
    flow = flow_method(text).load().flow_batch(frames, [(0, 1)])
    assert np.array_equal(flow[0], CV2[text](*frames).transpose(2, 0, 1))


def test_floating_frames_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="frames must be uint8 for method 'dis', got float32"):
        flow_method("dis").load().flow_batch(greys(2).astype(np.float32), [(0, 1)])


def test_no_pairs_give_no_flow() -> None:
    assert flow_method("farneback").load().flow_batch(greys(2), []).shape == (0, 2, 120, 160)
