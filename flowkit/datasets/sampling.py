"""Sampling of frames and flow fields for a training step: TSN's segments.

A video is cut into K segments of equal length; each gives one RGB frame and a stack of L flow
fields in a row, which starts at that frame. Of N fields, N - L + 1 can start a stack; with
n = N - L + 1, segment k has the starts from k n / K to (k + 1) n / K.

Source: Wang et al. 2016 (arXiv 1608.00859), section 3.1, and its data loader. In training that
loader never reaches the last n mod K starts, and gives a video with n < K sorted random starts;
here all starts are reached alike and segments of short videos overlap. In tests both agree.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.validate import check_at_least, check_choice

Short: TypeAlias = Literal["clamp", "wrap"]
"""Fields beyond the end of a short video: the last one again, or from the first one on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The rule of drawing segments."""

    segments: int = 3
    """K: frames and stacks a video."""
    stack: int = 5
    """L: flow fields of a stack."""
    short: Short = "clamp"
    """Substitute for fields beyond the end of a video with fewer than L: `clamp` repeats the last
    field, `wrap` starts again from the first."""

    def __post_init__(self) -> None:
        check_at_least("segments", self.segments, 1)
        check_at_least("stack", self.stack, 1)
        check_choice("short", self.short, get_args(Short))

    def random(self, n_flow: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the start of each segment, int64 (K,), evenly from its own part."""
        return self._starts(n_flow, rng.random(self.segments))

    def centred(self, n_flow: int) -> NDArray[np.int64]:
        """Return the start of each segment, int64 (K,): the middle of its part."""
        return self._starts(n_flow, np.full(self.segments, 0.5))

    def fields(self, starts: NDArray[np.int64], n_flow: int) -> NDArray[np.int64]:
        """Return the flow fields of the stacks, int64 (K, L), each in [0, n_flow)."""
        wanted = starts[:, None] + np.arange(self.stack)
        return wanted % n_flow if self.short == "wrap" else np.minimum(wanted, n_flow - 1)

    def _starts(self, n_flow: int, within: NDArray[np.float64]) -> NDArray[np.int64]:
        if n_flow < 1:
            raise InvalidParameterError(f"a video must have a flow field to be sampled, got {n_flow}")
        count = max(1, n_flow - self.stack + 1)
        positions = (np.arange(self.segments) + within) * (count / self.segments)
        # The product may round up to `count` itself.
        return np.minimum(positions.astype(np.int64), count - 1)
