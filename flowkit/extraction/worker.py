"""The work on one video in a worker process: run the pipeline, commit a part, by segments if it is long."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from flowkit.executor import Worker
from flowkit.extraction.config import MethodFields
from flowkit.extraction.engines import TVL1Engine, field_solver, solver_record, takeovers
from flowkit.extraction.held import fetched
from flowkit.extraction.part_sink import PartSink
from flowkit.extraction.pipeline import Decoded, FieldSolver, Pipeline, PipelineConfig
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
from flowkit.store.schema import StoreOptions
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
    gpu_memory_bytes: int = 0
    """Without servers, the most device memory that the worker's GPU gives; 0 is most of what is free."""


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
        callers=worker.jobs,
        gpu_memory_bytes=task.gpu_memory_bytes,
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
