"""Commit the frames and flow of a video as a part, by segments if it is long."""

from __future__ import annotations

import dataclasses
from typing import Self

from flowkit.extraction.engines import solver_record
from flowkit.extraction.pipeline import Item
from flowkit.extraction.resume import UNDISTURBED, ResumePoint, resume_point
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import (
    SOUND,
    SourceFingerprint,
    SourceShape,
    StoredVideoShape,
    VideoRecord,
)
from flowkit.store.schema import StoreOptions, field_names
from flowkit.store.write.part import PartWriter
from flowkit.store.write.segments import assemble, committed_segments
from flowkit.tvl1.engine import EngineInfo


@dataclasses.dataclass(slots=True)
class _Totals:
    """Sums over some flow fields: their number, largest component and clipped values."""

    n_flow: int = 0
    max_px: float = 0.0
    clipped: int = 0
    values: int = 0
    engines: dict[EngineInfo, None] = dataclasses.field(default_factory=dict)

    @property
    def clipped_fraction(self) -> float:
        """Fraction of the flow values that the codec clipped, in [0, 1]."""
        return self.clipped / max(1, self.values)

    def count(self, item: Item, values: int) -> None:
        """Add the fields of one pair, of `values` flow values each."""
        self.n_flow += bool(item.flows)
        for engine in item.engines:
            self.engines[engine] = None
        for flow in item.flows:
            self.max_px = max(self.max_px, flow.max_px)
            self.clipped += flow.clipped or 0
            self.values += values


class PartSink:
    """Takes a video's items in order and commits them, in segments of a bounded number of frames.

    Parameters
    ----------
    parts : PartsFolder
        Where parts are.
    video_id : str
        Id of the video.
    options : StoreOptions
        Options of the store.
    state : SourceFingerprint
        State of the source: segments of another state are not used.
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
        self.state = state
        self._segment_frames = segment_frames
        self._fields = field_names(options)
        self._writer: PartWriter | None = None
        self._here = _Totals()
        self._undisturbed = False
        self._engines: dict[EngineInfo, None] = {}
        self._segments = 0
        self._committed = 0
        segments = committed_segments(parts, video_id, options, state)
        while self._segments in segments:
            self._committed += segments[self._segments].n_frames
            self._segments += 1

    @property
    def committed(self) -> int:
        """Number of leading frames that are committed, by this run or an earlier one."""
        return self._committed

    def resume_point(self) -> ResumePoint | None:
        """Return where the video is resumed by a seek; None: from its beginning."""
        return resume_point(self._parts, self._id, self._segments, self._committed)

    @property
    def engines(self) -> tuple[EngineInfo, ...]:
        """The engines that computed the flow taken so far, the first one first."""
        return tuple(self._engines)

    def open_video(self, *, width: int, height: int) -> None:
        """Take the size of the stored frames, px, before the first item."""
        self.width, self.height = width, height

    def add(self, item: Item, *, undisturbed: bool = False) -> None:
        """Append the next frame and the flow that begins at it.

        Parameters
        ----------
        item
            The frame and its flow.
        undisturbed
            As `flowkit.extraction.resume.UNDISTURBED` has it, up to this frame at least.

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
        self._here.count(item, 2 * self.width * self.height)
        self._undisturbed = undisturbed
        self._engines.update(dict.fromkeys(item.engines))

    def commit(self, record: VideoRecord) -> VideoRecord:
        """Commit the video as one part and return its record, with the flow's totals.

        Raises
        ------
        NoSpaceError
            The disk is full.
        """
        if self._writer is None or self._segments:
            if self._writer is not None:
                self._commit_segment(self._writer)
            return assemble(self._parts, self._id, self._segments, record)
        whole = self._with_totals(record)
        self._writer.commit(whole)
        return whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abort()

    def _open_writer(self) -> PartWriter:
        self._here = _Totals()
        self._writer = PartWriter(
            self._parts.part_path(self._id),
            video_id=self._id,
            options=self._options,
            width=self.width,
            height=self.height,
        )
        return self._writer

    def _commit_segment(self, writer: PartWriter) -> None:
        record = VideoRecord.of(
            self._id,
            stored=StoredVideoShape(
                width=self.width,
                height=self.height,
                fps=0.0,
                n_frames=writer.n_frames,
                n_flow=self._here.n_flow,
            ),
            source=self.state,
            source_shape=SourceShape(source_width=self.width, source_height=self.height),
            solver=solver_record(tuple(self._here.engines)),
            decoding=UNDISTURBED if self._undisturbed else SOUND,
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
