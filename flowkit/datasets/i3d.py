"""Windows of clips as I3D reads them: frames and flow in [-1, 1], 224 x 224 px.

    windows = I3DWindows("out.h5", window=64, stride=64)
    loader = DataLoader(windows, 4, num_workers=2)  # PyTorch's, with its own collating
    batch["rgb"]  # float32 (B, T, 3, 224, 224); I3D's networks take (B, C, T, H, W): .transpose(1, 2)

The store is to be made by `flowkit extract --fps 25 --interpolation linear` with the default shorter side.

Source: kinetics-i3d's README, "Sample data and preprocessing" (Carreira and Zisserman, arXiv 1705.07750):
25 frames per second; the smaller dimension 256 px, bilinear; pixels to [-1, 1]; TV-L1 of grey frames,
truncated to [-20, 20] and scaled to [-1, 1]; the centre crop of 224. video_features rounds flow to 256
levels, 128 + 255 v / 40, before it scales them: at most one level, .008, and zero becomes .004.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from flowkit.datasets.transforms import resized_size, transform_flow, transform_frames
from flowkit.datasets.windows import frame_windows
from flowkit.errors import ClipNotFoundError, InputError, InvalidParameterError
from flowkit.remote import Location
from flowkit.store.read.store import Store, open_store
from flowkit.typing import Flow

SHORTER_SIDE_PX, CROP_PX, BOUND_PX = 256, 224, 20.0
_LEVELS = 255.0


class I3DItem(TypedDict):
    """A window of T frames of a clip.

    Attributes
    ----------
    rgb : NDArray
        float32 (T, 3, 224, 224), in [-1, 1], red first.
    flow : NDArray
        float32 (T, 2, 224, 224), in [-1, 1]: u (to the right), then v (down); 1 is 20 px.
    label : int
        Class of the clip, counted from 0; -1 without a label.
    id : str
        The clip's.
    start : int
        The window's first frame.
    """

    rgb: NDArray[np.float32]
    flow: NDArray[np.float32]
    label: int
    id: str
    start: int


def i3d_frames(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return frames as I3D's spatial stream reads them.

    Parameters
    ----------
    frames
        uint8 RGB (T, H, W, 3), of any size: the shorter side is brought to 256 px, bilinearly where that
        enlarges and by areas where it shrinks.

    Returns
    -------
    NDArray
        float32 (T, 3, 224, 224), 2 p / 255 - 1 of the centre crop.
    """
    made = transform_frames(frames, size=SHORTER_SIDE_PX, crop=_crop(frames.shape[1:3]), channels_last=True)
    scaled = made.astype(np.float32) * np.float32(2 / _LEVELS) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def i3d_flow(flow: Flow) -> NDArray[np.float32]:
    """Return flow as I3D's temporal stream reads it.

    Parameters
    ----------
    flow
        float32 (T, 2, H, W), px per frame step: resized as frames are, u follows the width, v the height.

    Returns
    -------
    NDArray
        float32 (T, 2, 224, 224): the centre crop, clipped to +-20 px and divided by 20.
    """
    made = transform_flow(flow, size=SHORTER_SIDE_PX, crop=_crop(flow.shape[-2:]))
    return np.ascontiguousarray(made.clip(-BOUND_PX, BOUND_PX) / np.float32(BOUND_PX), np.float32)


def _crop(stored: Sequence[int]) -> tuple[int, int, int, int]:
    height, width = resized_size((stored[0], stored[1]), SHORTER_SIDE_PX)
    return (height - CROP_PX) // 2, (width - CROP_PX) // 2, CROP_PX, CROP_PX


class I3DWindows:
    """Map-style dataset: item i is one window, an `I3DItem` of NumPy arrays.

    Field k of a window leads from its frame k to the next one, so that a window of T frames and T fields
    covers T + 1 frames, as in video_features; windows that do not fit wholly are left out. A clip with fewer
    fields than a window is one window, in which its last frame and its last field are repeated.

    Parameters
    ----------
    store
        A store or its path, with frames and with step 1. It pickles, and may be read by workers.
    ids
        Ids of the clips, in order; without it all of the store.
    window, stride
        T, and frames from the start of one window to that of the next, >= 1; without a stride T.
    field
        The flow field that is read.

    Raises
    ------
    ClipNotFoundError
        The store has no clip of an id.
    InputError
        A clip has no flow field.
    InvalidParameterError
        The store has no frames, no such field, or pairs frames that do not follow one another.
    """

    def __init__(
        self,
        store: Store | Location | str,
        *,
        ids: Sequence[str] | None = None,
        window: int = 64,
        stride: int | None = None,
        field: str = "flow",
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        self._check_store(field)
        self._window, self._field = window, field
        counts = dict(zip(self.store, self.store.column("n_flow"), strict=True))
        self.ids = tuple(self.store if ids is None else ids)
        if unknown := [k for k in self.ids if k not in counts]:
            raise ClipNotFoundError(f"{len(unknown)} clips are not in {self.store.path}: {unknown[:5]}")
        if short := [k for k in self.ids if counts[k] < 1]:
            raise InputError(f"{len(short)} clips have no flow field: {short[:5]}; leave them out of ids")
        numbers = {label: number for number, label in enumerate(self.store.labels)}
        labels = dict(zip(self.store, self.store.column("label"), strict=True))
        self._labels = {k: numbers.get(labels[k], -1) for k in self.ids}
        self._windows = [
            (k, fields)
            for k in self.ids
            for fields in frame_windows(counts[k], window, stride=window if stride is None else stride)
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> I3DItem:
        """Return a window, read from the store."""
        video_id, fields = self._windows[index]
        clip = self.store[video_id]
        missing = self._window - len(fields)
        frames = [*fields, *range(fields.stop, min(fields.stop + missing, clip.n_frames))]
        rgb = i3d_frames(clip.frames(frames))
        flow = i3d_flow(clip.flow(fields.start, fields.stop, field=self._field))
        return I3DItem(
            rgb=_extended(rgb, self._window),
            flow=_extended(flow, self._window),
            label=self._labels[video_id],
            id=video_id,
            start=fields.start,
        )

    def _check_store(self, field: str) -> None:
        options = self.store.options
        names = [one.name for one in options.fields]
        if options.frame_codec == "none" or field not in names or options.step != 1:
            raise InvalidParameterError(
                f"I3D's input needs frames, the field and step 1, got frames {options.frame_codec!r}, "
                f"{field!r} of {names} and step {options.step} in {self.store.path}; extract again"
            )


def _extended(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return rows with the last one repeated until there are `count`."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])
