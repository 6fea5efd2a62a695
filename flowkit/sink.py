"""One video's frames and flow → its part, by way of segments if it is long."""

from __future__ import annotations

import dataclasses
from typing import Self

from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.parts import PartsFolder
from flowkit.store.schema import SourceFingerprint, StoreOptions, VideoRecord, field_names
from flowkit.store.writer import PartWriter


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Frame k of a video and the flow of the pair that it begins.

    `flows` has one encoded field per flow field of the store; it is empty for the last `step`
    frames. `jpeg` is None in a store without frames.
    """

    pts_seconds: float
    jpeg: bytes | None
    flows: tuple[EncodedFlow, ...]


@dataclasses.dataclass(slots=True)
class Totals:
    """What is known of some flow: how many fields, and how far they reach."""

    n_flow: int = 0
    max_px: float = 0.0
    clipped: int = 0
    values: int = 0

    @property
    def clipped_fraction(self) -> float:
        """Share of the flow values that the codec clipped, in [0, 1]."""
        return self.clipped / max(1, self.values)

    def count(self, flows: tuple[EncodedFlow, ...], values: int) -> None:
        """Add the fields of one pair, of `values` flow values each."""
        self.n_flow += bool(flows)
        for flow in flows:
            self.max_px = max(self.max_px, flow.max_px)
            self.clipped += flow.clipped
            self.values += values


class Sink:
    """Takes a video's items in order and commits them.

    Parameters
    ----------
    parts : PartsFolder
        Where parts are.
    video_id : str
        Id of the video.
    options : StoreOptions
        Options of the store.
    state : SourceFingerprint
        What the source is now: segments of another state are not trusted.
    segment_frames : int
        Frames of a segment.
    """

    def __init__(
        self,
        parts: PartsFolder,
        video_id: str,
        options: StoreOptions,
        state: SourceFingerprint,
        *,
        segment_frames: int,
    ) -> None:
        self.width = self.height = 0
        self._parts = parts
        self._id = video_id
        self._options = options
        self._state = state
        self._segment_frames = segment_frames
        self._fields = field_names(options)
        self._writer: PartWriter | None = None
        self._here = Totals()
        self._segments = 0
        self._committed = 0
        segments = parts.committed_segments(video_id, options, state)
        while self._segments in segments:
            self._committed += segments[self._segments].n_frames
            self._segments += 1

    @property
    def committed(self) -> int:
        """How many leading frames are committed, by this run or an earlier one."""
        return self._committed

    def open_video(self, *, width: int, height: int) -> None:
        """Tell the size of the stored frames, px, before the first item."""
        self.width, self.height = width, height

    def add(self, item: Item) -> None:
        """Append the next frame and the flow that begins at it.

        Raises
        ------
        NoSpaceError
            The disk is full.
        """
        if self._writer is not None and self._writer.n_frames >= self._segment_frames:
            self._commit_segment(self._writer)
        writer = self._writer or self._open_writer()
        writer.add_frame(item.pts_seconds, item.jpeg)
        for name, flow in zip(self._fields, item.flows, strict=False):
            writer.add_flow(name, flow)
        self._here.count(item.flows, 2 * self.width * self.height)

    def commit(self, record: VideoRecord) -> VideoRecord:
        """Make the video one committed part and return its record, with the flow's totals.

        Raises
        ------
        NoSpaceError
            The disk is full.
        """
        if self._writer is None or self._segments:
            if self._writer is not None:
                self._commit_segment(self._writer)
            return self._parts.assemble(self._id, self._segments, record)
        whole = self._with_totals(record)
        self._writer.commit(whole)
        return whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abort()

    def _open_writer(self) -> PartWriter:
        self._here = Totals()
        self._writer = PartWriter(
            self._parts.part_path(self._id),
            video_id=self._id,
            options=self._options,
            width=self.width,
            height=self.height,
        )
        return self._writer

    def _commit_segment(self, writer: PartWriter) -> None:
        record = VideoRecord(
            video_id=self._id,
            width=self.width,
            height=self.height,
            source_width=self.width,
            source_height=self.height,
            fps=0.0,
            n_frames=writer.n_frames,
            n_flow=self._here.n_flow,
            backend="",
            source_name=self._state.name,
            source_bytes=self._state.bytes,
            source_mtime_ns=self._state.mtime_ns,
            source_sha256=self._state.sha256,
        )
        # Until it was full, it could have become the whole part.
        writer.path = self._parts.segment_path(self._id, self._segments)
        writer.commit(self._with_totals(record))
        self._committed += record.n_frames
        self._segments += 1
        self._writer = None

    def _with_totals(self, record: VideoRecord) -> VideoRecord:
        return dataclasses.replace(
            record, clipped_fraction=self._here.clipped_fraction, flow_max_px=self._here.max_px
        )
