"""The rows of a clip's features: their ranges of frames, and the frames and flow fields that are read.

Of a window of W frames from frame s on, n frames are those in the middle of n equal parts: with n = 1 frame
s + W // 2. Fields of which both frames are in the window are chosen likewise: with step 1 and one field,
s + (W - 1) // 2, which of an even W leads to that frame. Segments are TSN's (`flowkit.datasets.sampling`).
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from flowkit.datasets import Sampling, Short
from flowkit.datasets.windows import frame_windows
from gating.backbone_features.options import FeatureOptions

Numbers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipRows:
    """The T rows of a clip.

    Attributes
    ----------
    ranges : tuple of range
        The frames that each row stands for.
    frames : NDArray
        int64 (T, n), the frames that are read.
    stacks : NDArray
        int64 (T, m, L), the flow fields that are read, L an input.
    """

    ranges: tuple[range, ...]
    frames: Numbers
    stacks: Numbers


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipExtent:
    """Numbers of a clip's frames and flow fields, and frames from the first to the second of a pair."""

    n_frames: int
    n_flow: int
    step: int


def rows_of(extent: ClipExtent, options: FeatureOptions, *, stack: int, short: Short) -> ClipRows:
    """Return the rows of a clip with a frame or more.

    Parameters
    ----------
    extent
        Of the clip. Without a flow field its frames are chosen as if it had one, and the stacks mean nothing.
    options
        What the rows are.
    stack, short
        L, and what stands for fields beyond the end, as of `Sampling`.
    """
    if options.per == "window":
        return _window_rows(extent, options, stack=stack, short=short)
    sampling = Sampling(segments=options.segments, stack=stack, short=short)
    n_flow = max(1, extent.n_flow)
    starts = sampling.centred(n_flow)
    stacks = sampling.fields(starts, n_flow)
    if options.per == "clip":
        return ClipRows(ranges=(range(extent.n_frames),), frames=starts[None], stacks=stacks[None])
    bounds = np.arange(options.segments + 1) * extent.n_frames // options.segments
    ranges = tuple(
        range(int(first), max(int(first) + 1, int(end))) for first, end in itertools.pairwise(bounds)
    )
    return ClipRows(ranges=ranges, frames=starts[:, None], stacks=stacks[:, None])


def _window_rows(extent: ClipExtent, options: FeatureOptions, *, stack: int, short: Short) -> ClipRows:
    ranges = frame_windows(extent.n_frames, options.window, stride=options.stride)
    first = np.array([one.start for one in ranges], np.int64)
    length = len(ranges[0])  # of all: only a single one is shorter
    n_flow = max(1, extent.n_flow)
    frame_rule = Sampling(segments=options.frames_per_window, stack=1)
    field_rule = Sampling(segments=options.fields_per_window, stack=stack, short=short)
    inside = max(1, length - extent.step)
    fields = field_rule.fields(field_rule.centred(inside), inside)
    return ClipRows(
        ranges=tuple(ranges),
        frames=first[:, None] + frame_rule.centred(length),
        stacks=np.minimum(first[:, None, None] + fields, n_flow - 1),
    )
