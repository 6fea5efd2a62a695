"""Windows of clips: each a range of a clip's frames, read as a clip that was cut to them would be.

windows = [Window(video_id="fall", frames=one) for one in frame_windows(n_frames, 16, stride=8)]
ClipDataset(WindowedStore(store, windows), segments=3)  # an item for each window
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowkit.remote import Location
from flowkit.store.read.clip import Clip
from flowkit.store.read.store import Store
from flowkit.store.schema import StoreOptions
from flowkit.typing import Codes
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Frames of a clip, one after another.

    Attributes
    ----------
    video_id : str
        Of the clip.
    frames : range
        Of its frames, step 1.
    """

    video_id: str
    frames: range

    @property
    def key(self) -> str:
        """The window's id in a `WindowedStore`: that of its clip, and its first frame."""
        return f"{self.video_id}@{self.frames.start}"


class ClipWindow:
    """The frames and fields of a window, counted from its first frame, as samples are read from a clip."""

    def __init__(self, clip: Clip, frames: range) -> None:
        self._clip, self._frames = clip, frames

    def iter_frames(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield frames one by one; see `Clip.iter_frames`."""
        return self._clip.iter_frames([self._frames[k] for k in indices])

    def iter_codes(self, indices: Sequence[int], *, field: str = "flow") -> Iterator[tuple[Codes, float]]:
        """Yield flow fields as they are stored, one by one; see `Clip.iter_codes`."""
        return self._clip.iter_codes([self._frames[k] for k in indices], field=field)


class WindowedStore:
    """Windows of a store's clips, as `ClipSamples` and `ClipDataset` read a store's clips.

    Parameters
    ----------
    store
        Of the clips; it stays open.
    windows
        No two of one clip start at one frame.

    Attributes
    ----------
    windows : dict of str to Window
        By `Window.key`, in order.
    """

    def __init__(self, store: Store, windows: Sequence[Window]) -> None:
        self._store = store
        self.windows = {one.key: one for one in windows}

    @property
    def path(self) -> Location:
        """The store's."""
        return self._store.path

    @property
    def options(self) -> StoreOptions:
        """The store's."""
        return self._store.options

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names: the store's."""
        return self._store.labels

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.windows)

    def __getitem__(self, key: str) -> ClipWindow:
        window = self.windows[key]
        return ClipWindow(self._store[window.video_id], window.frames)

    def column(self, name: str) -> list[Any]:
        """Return a column of the index, a value for each window: of its clip, or its own id and counts."""
        if name == "id":
            return list(self.windows)
        if name == "n_frames":
            return [len(one.frames) for one in self.windows.values()]
        values = self._of_clips(name)
        if name != "n_flow":
            return values
        # Fields of which both frames are in the window: as many fewer than frames as in the whole clip.
        cut = zip(values, self._of_clips("n_frames"), self.windows.values(), strict=True)
        return [max(0, n_flow - (n_frames - len(one.frames))) for n_flow, n_frames, one in cut]

    def _of_clips(self, name: str) -> list[Any]:
        by_id = dict(zip(self._store, self._store.column(name), strict=True))
        return [by_id[one.video_id] for one in self.windows.values()]
