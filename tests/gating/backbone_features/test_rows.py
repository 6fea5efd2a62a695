"""Frames and fields that are read of a clip's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowkit.datasets import Sampling
from flowkit.errors import InvalidParameterError
from gating.backbone_features.options import FeatureOptions
from gating.backbone_features.rows import ClipExtent, ClipRows, rows_of


def rows(n_frames: int, options: FeatureOptions, *, stack: int = 1, step: int = 1) -> ClipRows:
    extent = ClipExtent(n_frames=n_frames, n_flow=max(0, n_frames - step), step=step)
    return rows_of(extent, options, stack=stack, short="clamp")


def test_a_window_has_its_middle_frame_and_the_field_that_leads_to_it() -> None:
    made = rows(35, FeatureOptions(window=16, stride=8))
    assert made.ranges == (range(16), range(8, 24), range(16, 32))
    assert made.frames.tolist() == [[8], [16], [24]]
    assert made.stacks.tolist() == [[[7]], [[15]], [[23]]]


def test_more_frames_and_stacks_are_those_in_the_middle_of_equal_parts_inside_the_window() -> None:
    options = FeatureOptions(window=16, stride=16, frames_per_window=2, fields_per_window=2)
    made = rows(32, options, stack=3, step=2)
    assert made.frames[1].tolist() == [16 + 4, 16 + 12]
    # 14 fields lie in the window, so that 12 can start a stack of three.
    assert made.stacks[1].tolist() == [[16 + 3, 16 + 4, 16 + 5], [16 + 9, 16 + 10, 16 + 11]]
    assert made.stacks[1].max() + 2 <= 31


@pytest.mark.parametrize(("n_frames", "frame", "field"), [(5, 2, 2), (2, 1, 0), (1, 0, 0)])
def test_a_clip_shorter_than_a_window_is_one_window_of_its_frames(
    n_frames: int, frame: int, field: int
) -> None:
    made = rows(n_frames, FeatureOptions())
    assert made.ranges == (range(n_frames),)
    assert (made.frames.tolist(), made.stacks.tolist()) == ([[frame]], [[[field]]])


def test_segments_are_those_of_testing_and_a_clip_is_all_of_them() -> None:
    starts = Sampling(segments=4, stack=1).centred(19)
    segments = rows(20, FeatureOptions(per="segment", segments=4))
    assert segments.ranges == (range(5), range(5, 10), range(10, 15), range(15, 20))
    assert np.array_equal(segments.frames[:, 0], starts)
    assert np.array_equal(segments.stacks[:, 0, 0], starts)
    clip = rows(20, FeatureOptions(per="clip", segments=4))
    assert clip.ranges == (range(20),)
    assert np.array_equal(clip.frames[0], starts)


def test_a_run_has_its_own_networks() -> None:
    with pytest.raises(InvalidParameterError, match="run must be given without backbone"):
        FeatureOptions(run=Path("run"), backbone="small")
    with pytest.raises(InvalidParameterError, match="window"):
        FeatureOptions(window=0)
    with pytest.raises(InvalidParameterError, match="frames_per_window"):
        FeatureOptions(window=4, frames_per_window=5)
