"""One video of an open store: frames and flow by their indices."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import ClipRangeError
from flowkit.store import checked_hdf5
from flowkit.store.read.video import StoredVideo
from flowkit.store.record import Attributes, VideoRecord
from flowkit.store.schema import StoreOptions, field_names


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipRequest:
    """What to read of one clip."""

    video_id: str
    frames: Sequence[int] = ()
    """Indices of frames."""
    flow: Sequence[int] = ()
    """Indices of flow fields."""
    field: str = "flow"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipData:
    """What was read of one clip, in the order asked."""

    video_id: str
    frames: NDArray[np.uint8] | None
    """uint8 (n, H, W, 3), RGB; None where no frames were asked for."""
    codes: NDArray[Any]
    """Flow as it is stored, (m, 2, H, W); see `Clip.flow_codes`."""
    scales: NDArray[np.float32]
    """float32 (m,), px a code."""


class ClipSource(Protocol):
    """What a clip needs of its store."""

    path: Path
    options: StoreOptions

    def stored_video(self, video_id: str) -> StoredVideo:
        """Open a video in this process."""


class Clip:
    """One video of a store; it pickles with its store, by path."""

    def __init__(self, store: ClipSource, video_id: str) -> None:
        self.id = video_id
        self._store = store
        self._cached: tuple[int, StoredVideo] | None = None

    def __repr__(self) -> str:
        return f"<flowkit clip {self.id!r} of {str(self._store.path)!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Clip, (self._store, self.id)

    @property
    def _video(self) -> StoredVideo:
        if self._cached is None or self._cached[0] != os.getpid():
            self._cached = (os.getpid(), self._store.stored_video(self.id))
        return self._cached[1]

    @property
    def record(self) -> VideoRecord:
        """Everything that the store says of the video."""
        return self._video.record

    @property
    def attrs(self) -> Attributes:
        """The attributes of the video as they are stored."""
        return self.record.to_attrs()

    @property
    def label(self) -> str:
        """Class name; empty where there is none."""
        return self.record.label

    @property
    def n_frames(self) -> int:
        """How many frames the video has."""
        return self._video.extent.n_frames

    @property
    def n_flow(self) -> int:
        """How many flow fields it has: field k leads from frame k to frame k + step."""
        return self._video.extent.n_flow

    @property
    def width(self) -> int:
        """Width of frames and flow, px."""
        return self._video.extent.width

    @property
    def height(self) -> int:
        """Height of frames and flow, px."""
        return self._video.extent.height

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the flow fields."""
        return field_names(self._store.options)

    @property
    def pts(self) -> NDArray[np.float64]:
        """Presentation time of each frame, float64 (n_frames,), seconds."""
        with self._contained():
            return self._video.pts

    def flow(self, start: int = 0, stop: int | None = None, field: str = "flow") -> NDArray[np.float32]:
        """Return flow fields start to stop - 1.

        Parameters
        ----------
        start, stop
            Range in [0, n_flow]; without `stop`, to the end.
        field
            One of `fields`.

        Returns
        -------
        float32 array (stop - start, 2, H, W)
            u (to the right), then v (down), px per step between the frames of a pair.

        Raises
        ------
        ClipRangeError
            The range or the field lies outside the clip.
        StoreCorruptError
            A stored field fails its CRC.
        """
        codes, scales = self.flow_codes(start, stop, field)
        return self._store.options.codec.to_px(codes, scales[:, None, None, None])

    def flow_codes(
        self, start: int = 0, stop: int | None = None, field: str = "flow"
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return flow fields as they are stored; parameters as `flow`'s.

        Returns
        -------
        codes : array (n, 2, H, W), of the codec's dtype
        scales : float32 array (n,)
            px a code: flow = codes * scale, plus the codec's `offset_px` where it has one.
        """
        start, stop = operator.index(start), None if stop is None else operator.index(stop)
        with self._contained():
            n_flow = self._video.extent.n_flow
            stop = n_flow if stop is None else stop
            if not 0 <= start <= stop <= n_flow:
                raise ClipRangeError(
                    f"flow fields [{start}, {stop}) lie outside {self.id!r}: "
                    f"expected 0 <= start <= stop <= {n_flow}"
                )
            return self._codes(range(start, stop), field)

    def flow_codes_at(
        self, indices: Sequence[int] | NDArray[np.integer[Any]], field: str = "flow"
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return flow fields by their indices, each in [0, n_flow), as `flow_codes` does.

        Raises
        ------
        ClipRangeError
            An index or the field lies outside the clip.
        StoreCorruptError
            A stored field fails its CRC.
        """
        wanted = [operator.index(k) for k in indices]
        with self._contained():
            self._check_inside("flow fields", wanted, self._video.extent.n_flow)
            return self._codes(wanted, field)

    def _codes(self, indices: Sequence[int], field: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        codes = self._video.codes(field, indices)
        return codes, self._video.field(field).scales[np.asarray(indices, np.intp)]

    def frames(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Return frames by their indices, in the order given.

        Parameters
        ----------
        indices
            Each in [0, n_frames).

        Returns
        -------
        uint8 array (len(indices), H, W, 3), RGB

        Raises
        ------
        ClipRangeError
            An index lies outside the clip, or the store keeps no frames.
        StoreCorruptError
            A stored frame fails its CRC.
        """
        wanted = [operator.index(k) for k in indices]
        with self._contained():
            self._check_inside("frames", wanted, self._video.extent.n_frames)
            return self._video.pictures(wanted)

    def each_frame(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Yield frames one by one, uint8 (H, W, 3), to be put where they are wanted; as `frames`."""
        with self._contained():
            video = self._video
            self._check_inside("frames", indices, video.extent.n_frames)
            yield from video.each_frame(indices)

    def each_flow(self, indices: Sequence[int], field: str = "flow") -> Iterator[tuple[NDArray[Any], float]]:
        """Yield flow fields one by one, codes (2, H, W) and scale; as `flow_codes_at`."""
        with self._contained():
            self._check_inside("flow fields", indices, self._video.extent.n_flow)
            stored = self._video.field(field)
            for k, codes in zip(indices, stored.each(indices), strict=True):
                yield codes, float(stored.scales[k])

    def read(self, request: ClipRequest) -> ClipData:
        """Return what is asked of this clip; see `Store.read_many`."""
        codes, scales = self.flow_codes_at(request.flow, request.field)
        frames = self.frames(request.frames) if request.frames else None
        return ClipData(video_id=self.id, frames=frames, codes=codes, scales=scales)

    def _check_inside(self, what: str, indices: Sequence[int], count: int) -> None:
        outside = [k for k in indices if not 0 <= k < count]
        if outside:
            raise ClipRangeError(
                f"{what} {outside[:5]} lie outside {self.id!r}: expected 0 <= index < {count}"
            )

    def _contained(self) -> Any:
        return checked_hdf5.contained(f"{self.id!r} of {self._store.path}")
