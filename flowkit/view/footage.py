"""One video of a store, sampled: a frame and the flow that leads from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flowkit.comparison.sources import first_frame
from flowkit.distribution import spread
from flowkit.errors import ClipRangeError
from flowkit.store.read.store import Clip, Store
from flowkit.view.wheel import fitting_scale

_SCALE_FIELDS = 12
_SCALE_PIXEL_STEP = 4


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One flow field and the frame where it begins.

    Attributes
    ----------
    index
        Of the field.
    seconds
        Time of the frame.
    frame
        uint8 (H, W, 3) RGB, or None where the store keeps no frames.
    flow
        float32 (2, H, W), px per step.
    """

    index: int
    seconds: float
    frame: NDArray[np.uint8] | None
    flow: NDArray[np.float32]


class Footage:
    """Samples of one video, and the scale that suits all of them.

    Parameters
    ----------
    store, video_id
        An open store and a video of it.
    field
        Name of the flow field.
    start, stop
        Range of fields; without `stop`, to the end.
    max_px
        Scale of the colours, px; chosen from the flow if None.

    Raises
    ------
    ClipNotFoundError, ClipRangeError
        The store has no such video or field, or it has no flow in the range.
    """

    def __init__(
        self,
        store: Store,
        video_id: str,
        *,
        field: str = "flow",
        start: int = 0,
        stop: int | None = None,
        max_px: float | None = None,
    ) -> None:
        self.clip: Clip = store[video_id]
        self.step = store.options.step
        self._field = field
        self.has_frames = store.options.frame_codec != "none"
        stop = self.clip.n_flow if stop is None else stop
        if not 0 <= start < stop <= self.clip.n_flow:
            raise ClipRangeError(
                f"{video_id!r} has no flow fields [{start}, {stop}): expected 0 <= start < stop <= "
                f"{self.clip.n_flow}"
            )
        self.range = range(start, stop)
        self.max_px = self._scale() if max_px is None else max_px

    def spread(self, count: int) -> list[int]:
        """Return `count` indices of fields, evenly spread, or all where there are no more."""
        return spread(self.range, count)

    def sample(self, index: int) -> Sample:
        """Read one flow field and its frame."""
        begin = first_frame(self._field, index, self.step)
        return Sample(
            index=index,
            seconds=float(self.clip.pts[begin]),
            frame=self.clip.frames([begin])[0] if self.has_frames else None,
            flow=self.clip.flow(index, index + 1, field=self._field)[0],
        )

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        """Read samples one after the other."""
        return map(self.sample, indices)

    def _scale(self) -> float:
        skip = _SCALE_PIXEL_STEP
        fields = [
            flow[:, ::skip, ::skip]
            for flow in self.clip.iter_flow(self.spread(_SCALE_FIELDS), field=self._field)
        ]
        return fitting_scale(np.stack([np.hypot(*flow) for flow in fields]))
