"""One video of an open store: frames and flow by index."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import ClipRangeError
from flowkit.remote import Location
from flowkit.store import checked_hdf5
from flowkit.store.read.video import StoredVideo
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions, field_names
from flowkit.typing import Codes, Flow

Indices: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]
"""Indices of frames or flow fields, each counted from 0, in any order."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipRequest:
    """One request of `Store.read_many`: frames and flow fields of a clip, by index."""

    video_id: str
    frames: Sequence[int] = ()
    """Indices of frames."""
    flow: Sequence[int] = ()
    """Indices of flow fields."""
    field: str = "flow"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipData:
    """Frames and flow of one `ClipRequest`, in the order asked."""

    video_id: str
    frames: NDArray[np.uint8] | None
    """uint8 (n, H, W, 3), RGB; None where no frames were asked for."""
    codes: Codes
    """Flow as it is stored, (m, 2, H, W); see `Clip.codes`."""
    scales: NDArray[np.float32]
    """float32 (m,), px a code."""


class ClipSource(Protocol):
    """The part of a store that a clip needs."""

    path: Location
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

    def __reduce__(self) -> tuple[type[Clip], tuple[ClipSource, str]]:
        return Clip, (self._store, self.id)

    @property
    def _video(self) -> StoredVideo:
        if self._cached is None or self._cached[0] != os.getpid():
            self._cached = (os.getpid(), self._store.stored_video(self.id))
        return self._cached[1]

    @property
    def record(self) -> VideoRecord:
        """The video's record: id, label, source, counts, solver."""
        return self._video.record

    @property
    def label(self) -> str:
        """Class name; empty where there is none."""
        return self.record.label

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self._video.extent.n_frames

    @property
    def n_flow(self) -> int:
        """Number of flow fields: field k leads from frame k to frame k + step."""
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

    def flow(self, start: int = 0, stop: int | None = None, *, field: str = "flow") -> Flow:
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
            The range or the field is outside the clip.
        StoreCorruptError
            A stored field fails its CRC.
        """
        codes, scales = self.codes(start, stop, field=field)
        return self._store.options.codec.to_px(codes, scales[:, None, None, None])

    def codes(
        self, start: int = 0, stop: int | None = None, *, field: str = "flow"
    ) -> tuple[Codes, NDArray[np.float32]]:
        """Return flow fields as they are stored; parameters and errors as `flow`'s.

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
                    f"flow fields [{start}, {stop}) are outside {self.id!r}: "
                    f"expected 0 <= start <= stop <= {n_flow}"
                )
            return self._codes(range(start, stop), field)

    def clipped(self, *, field: str = "flow") -> NDArray[np.int32] | None:
        """Return how many components of each flow field the codec clipped.

        Those were beyond its largest code, or its bound, when the field was encoded, and are stored as the
        nearest code.

        Parameters
        ----------
        field
            One of `fields`.

        Returns
        -------
        int32 array (n_flow,) or None
            0 to 2 H W each; of a codec that clips nothing, zeros. None where the numbers are not known: of
            images that were imported, and of a video that an earlier flowkit stored as images or with clipped
            components (`record.clipped_fraction` has those of all its fields).

        Raises
        ------
        ClipRangeError
            The store has no such field.
        StoreCorruptError
            The stored numbers fail their CRC, or are impossible.
        """
        with self._contained():
            return self._video.clipped(field)

    def frames(self, indices: Indices | None = None) -> NDArray[np.uint8]:
        """Return frames by their indices, in the order given.

        Parameters
        ----------
        indices
            Each in [0, n_frames); all frames without it.

        Returns
        -------
        uint8 array (n, H, W, 3), RGB

        Raises
        ------
        ClipRangeError
            An index is outside the clip, or the store keeps no frames.
        StoreCorruptError
            A stored frame fails its CRC.
        """
        wanted = _integers(indices)
        with self._contained():
            return self._video.images(self._inside("frames", wanted, self._video.extent.n_frames))

    def iter_flow(self, indices: Indices | None = None, *, field: str = "flow") -> Iterator[Flow]:
        """Yield flow fields one by one, float32 (2, H, W), px per step: those of `indices`, or all.

        Raises
        ------
        ClipRangeError, StoreCorruptError
            As `flow`.
        """
        codec = self._store.options.codec
        for codes, scale in self.iter_codes(indices, field=field):
            yield codec.to_px(codes, scale)

    def iter_codes(
        self, indices: Indices | None = None, *, field: str = "flow"
    ) -> Iterator[tuple[Codes, float]]:
        """Yield flow fields as they are stored, one by one: codes (2, H, W) and scale, px a code.

        Raises
        ------
        ClipRangeError, StoreCorruptError
            As `flow`.
        """
        asked = _integers(indices)
        with self._contained():
            wanted = self._inside("flow fields", asked, self._video.extent.n_flow)
            stored = self._video.field(field)
            for k, codes in zip(wanted, stored.each(wanted), strict=True):
                yield codes, float(stored.scales[k])

    def iter_frames(self, indices: Indices | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield frames one by one, uint8 RGB (H, W, 3); parameters and errors as `frames`'.

        For a caller with an array of its own: each is copied once, to its destination.
        """
        wanted = _integers(indices)
        with self._contained():
            video = self._video
            yield from video.each_frame(self._inside("frames", wanted, video.extent.n_frames))

    def _read(self, request: ClipRequest) -> ClipData:
        """Read one request of `Store.read_many`."""
        asked = _integers(request.flow)
        with self._contained():
            wanted = self._inside("flow fields", asked, self._video.extent.n_flow)
            codes, scales = self._codes(wanted, request.field)
        frames = self.frames(request.frames) if request.frames else None
        return ClipData(video_id=self.id, frames=frames, codes=codes, scales=scales)

    def _codes(self, indices: Sequence[int], field: str) -> tuple[Codes, NDArray[np.float32]]:
        codes = self._video.codes(field, indices)
        return codes, self._video.field(field).scales[np.asarray(indices, np.intp)]

    def _inside(self, noun: str, wanted: Sequence[int] | None, count: int) -> Sequence[int]:
        """Return the indices, all of [0, count) for None; raise for one outside it."""
        if wanted is None:
            return range(count)
        if outside := [k for k in wanted if not 0 <= k < count]:
            raise ClipRangeError(
                f"{noun} {outside[:5]} are outside {self.id!r}: expected 0 <= index < {count}"
            )
        return wanted

    def _contained(self) -> AbstractContextManager[None]:
        return checked_hdf5.contained(f"{self.id!r} of {self._store.path}")


def _integers(indices: Indices | None) -> list[int] | None:
    """Return indices as int; called outside `contained`, which takes a TypeError for damage."""
    return None if indices is None else [operator.index(k) for k in indices]
