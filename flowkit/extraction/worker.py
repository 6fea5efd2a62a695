"""The work on one video in a worker process: run the pipeline, commit a part, by segments if it is long."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from flowkit.executor import Worker
from flowkit.extraction.config import MethodFields
from flowkit.extraction.engines import TVL1Engine, field_solver, solver_record, takeovers
from flowkit.extraction.held import fetched
from flowkit.extraction.pipeline import Decoded, FieldSolver, Item, Pipeline, PipelineConfig
from flowkit.extraction.plan import fingerprint
from flowkit.extraction.scratch import Scratch
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.resize_rule import ResizeRule, display_size, has_possible_aspect, is_square
from flowkit.store.codecs import clipped_warning
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import (
    DecodeStatus,
    SourceFingerprint,
    SourceShape,
    StoredVideoShape,
    TimeRange,
    VideoRecord,
)
from flowkit.store.schema import StoreOptions, field_names
from flowkit.store.write.part import PartWriter
from flowkit.store.write.segments import assemble, committed_segments
from flowkit.tvl1.backend import BackendName
from flowkit.tvl1.engine import EngineInfo
from flowkit.typing import Decoder


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoTask:
    """One video to extract, with all settings of its worker.

    `servers` are the sockets of the processes that compute TV-L1; without any, the worker does.
    """

    source: VideoSource
    store: Path
    options: StoreOptions
    methods: tuple[MethodFields, ...]
    backend: BackendName
    resize: ResizeRule
    decoder: Decoder
    fps: float | None
    deinterlace: bool
    segment_frames: int
    servers: tuple[str, ...] = ()
    takeover: bool = False
    """When no server is left, the CPU engine computes in the worker."""
    scratch: Scratch | None = None
    """Where a video of an archive or an address is copied to."""


def extract_video(task: VideoTask, worker: Worker) -> VideoOutcome:
    """Extract one video and commit its part.

    Raises
    ------
    VideoError
        The video cannot be opened or decoded, or has no pair of frames.
    BackendError
        The engine fails.
    NoSpaceError
        The disk is full.
    OSError
        It cannot be fetched from its archive or address.
    """
    began = time.perf_counter()
    if task.source.held is None or task.scratch is None:
        return _extract(task, worker, None, began)
    with fetched(task.source.held, task.scratch, on_beat=worker.beat) as (path, state):
        fetching = time.perf_counter() - began
        local = dataclasses.replace(task, source=dataclasses.replace(task.source, path=path))
        outcome = _extract(local, worker, state, began)
    return dataclasses.replace(outcome, stages={"fetch": fetching, **outcome.stages})


def _extract(task: VideoTask, worker: Worker, state: SourceFingerprint | None, began: float) -> VideoOutcome:
    """Extract a file; `state` is that of a fetched one."""
    pipeline = _pipeline(task, worker)
    if state is None:
        with pipeline.clock.stage("fingerprint"):
            state = _fingerprint(task.source)
    parts = PartsFolder(task.store)
    with PartSink(
        parts, task.source.video_id, task.options, state, segment_frames=task.segment_frames
    ) as sink:
        decoded = pipeline.run(sink, worker.report, worker.beat)
        record = _record(task, decoded, sink, pipeline.config.solvers)
        with pipeline.clock.stage("write"):
            record = sink.commit(record)
    return VideoOutcome(
        video_id=task.source.video_id,
        source=task.source.name,
        status="stored",
        label=record.label,
        n_frames=record.n_frames,
        n_flow=record.n_flow,
        truncated=record.status == "truncated",
        seconds=time.perf_counter() - began,
        stages=dict(pipeline.clock.seconds),
        warnings=(
            *_warnings(record, decoded, task),
            *takeovers(task.backend, sink.engines, pipeline.config.solvers),
        ),
    )


def _pipeline(task: VideoTask, worker: Worker) -> Pipeline:
    # Workers begin with different servers.
    first = worker.slot % max(1, len(task.servers))
    tvl1 = TVL1Engine(
        backend=task.backend,
        servers=task.servers[first:] + task.servers[:first],
        takeover=task.takeover,
    )
    config = PipelineConfig(
        options=task.options,
        resize=task.resize,
        solvers=tuple(field_solver(each, tvl1) for each in task.methods),
        decoder=task.decoder,
        fps=task.fps,
        deinterlace=task.deinterlace,
    )
    return Pipeline(task.source, config, threads=worker.threads, max_threads=worker.jobs)


def _fingerprint(source: VideoSource) -> SourceFingerprint:
    try:
        return fingerprint(source.path)
    except OSError:
        # The decoder has the better reason for a file that is missing or unreadable.
        return SourceFingerprint(name=source.path.name, bytes=0, mtime_ns=0, sha256="")


def _record(task: VideoTask, decoded: Decoded, sink: PartSink, solvers: Sequence[FieldSolver]) -> VideoRecord:
    info, report, state = decoded.info, decoded.report, sink.state
    return VideoRecord.of(
        task.source.video_id,
        label=task.source.label,
        stored=StoredVideoShape(
            width=sink.width,
            height=sink.height,
            fps=decoded.fps,
            n_frames=decoded.n_frames,
            n_flow=decoded.n_flow,
        ),
        source=state,
        source_shape=SourceShape(
            source_width=info.width,
            source_height=info.height,
            rotation=info.rotation,
            mirrored=int(info.mirrored),
            pixel_aspect=info.pixel_aspect,
            interlaced=int(report.interlaced_frames > 0),
        ),
        solver=solver_record(sink.engines or [EngineInfo.of(one.solver) for one in solvers]),
        decoding=DecodeStatus(
            status="truncated" if report.truncated else "ok",
            status_reason="; ".join(filter(None, [report.truncated_reason, *decoded.notes])),
            skipped_frames=report.skipped_frames,
            pts_repaired=int(report.pts_repaired),
        ),
        times=TimeRange(start_seconds=task.source.start_seconds, end_seconds=task.source.end_seconds),
    )


def _warnings(record: VideoRecord, decoded: Decoded, task: VideoTask) -> tuple[str, ...]:
    found, options = list(decoded.notes), task.options
    if record.status == "truncated":
        found.append(f"truncated: {decoded.report.truncated_reason}")
    if not has_possible_aspect(record.pixel_aspect):
        found.append(
            f"its header names pixels {record.pixel_aspect:g} times as wide as high, which no display has; "
            "frames and flow keep the pixels as they are coded"
        )
    elif task.resize.pixels != "square" and not is_square(record.pixel_aspect):
        width, height = record.source_width, record.source_height
        shown = "{}x{}".format(*display_size(width, height, record.pixel_aspect))
        remedy = (
            "" if task.resize.mode == "size" else "; --pixels square, into another file, takes them as shown"
        )
        found.append(
            f"its pixels are not square: {width}x{height} is shown as {shown}; frames and flow keep the "
            f"pixels as they are coded{remedy}"
        )
    if record.interlaced:
        found.append(
            f"{decoded.report.interlaced_frames} of {decoded.report.frames} frames are interlaced: each "
            "shows two moments in alternate lines; they are stored as they are coded; --deinterlace, into "
            "another file, makes each one moment"
        )
    largest_px = record.flow_max_px
    found.append(clipped_warning(options.flow_codec, record.clipped_fraction, largest_px=largest_px))
    return tuple(filter(None, found))


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
        self.engines.update(dict.fromkeys(item.engines))
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

    @property
    def engines(self) -> tuple[EngineInfo, ...]:
        """The engines that computed the flow taken so far, the first one first."""
        return tuple(self._engines)

    def open_video(self, *, width: int, height: int) -> None:
        """Take the size of the stored frames, px, before the first item."""
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
        self._here.count(item, 2 * self.width * self.height)
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
