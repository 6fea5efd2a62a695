"""What a worker process does with one video: run the pipeline, commit, report."""

from __future__ import annotations

import dataclasses
import functools
import time
import traceback
from pathlib import Path

from flowkit.errors import BackendError, NoSpaceError, VideoError
from flowkit.executor import Worker
from flowkit.frames import ResizeRule
from flowkit.inputs import VideoSource
from flowkit.pipeline import Decoded, Pipeline, PipelineConfig
from flowkit.plan import fingerprint
from flowkit.sink import Sink
from flowkit.store.codecs import DEFAULT_FLOW_CODEC
from flowkit.store.parts import PartsFolder
from flowkit.store.schema import Failure, SourceFingerprint, StoreOptions, VideoRecord
from flowkit.tvl1.backend import Solver, choose_backend
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.remote import RemoteSolver

CLIPPED_WARNING = 0.01
"""Share of flow values outside a bounded codec's range above which a video is warned of."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One video to extract, with everything a worker must know.

    `servers` are the sockets of the processes that compute; without any, the worker does.
    """

    source: VideoSource
    store: Path
    options: StoreOptions
    params: TVL1Params
    backend: str
    resize: ResizeRule
    decoder: str
    fps: float | None
    segment_frames: int
    servers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoOutcome:
    """What became of one video of a run.

    `status` is "stored", "already_stored" or "failed"; `stages` are seconds of work (summed over
    threads) per stage; `seconds` is elapsed time.
    """

    video_id: str
    source: str
    status: str
    label: str = ""
    n_frames: int = 0
    n_flow: int = 0
    truncated: bool = False
    seconds: float = 0.0
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None


def run_job(job: Job, worker: Worker) -> VideoOutcome:
    """Extract one video and commit its part; what goes wrong with it becomes its outcome."""
    began = time.perf_counter()
    try:
        outcome = _extract(job, worker)
    except (VideoError, NoSpaceError) as error:
        return failed(job.source, error.reason, str(error))
    except BackendError as error:
        return failed(job.source, "engine_error", str(error))
    except MemoryError as error:
        return failed(job.source, "out_of_memory", str(error) or "out of memory")
    except Exception:  # a fault that one video brings to light must not cost the others
        return failed(job.source, "internal_error", traceback.format_exc(limit=-4))
    return dataclasses.replace(outcome, seconds=time.perf_counter() - began)


def failed(source: VideoSource, reason: str, detail: str) -> VideoOutcome:
    """Return the outcome of a video that did not make it."""
    return VideoOutcome(
        video_id=source.video_id,
        source=str(source.path),
        status="failed",
        label=source.label,
        failure=Failure(source=str(source.path), reason=reason, detail=detail),
    )


@functools.lru_cache(maxsize=2)
def _solver(backend: str, params: TVL1Params) -> Solver:
    return choose_backend(backend, params).solver


@functools.lru_cache(maxsize=2)
def _remote_solver(servers: tuple[str, ...]) -> RemoteSolver:
    return RemoteSolver(servers)


def _extract(job: Job, worker: Worker) -> VideoOutcome:
    solver: Solver
    if job.servers:
        first = worker.slot % len(job.servers)
        solver = _remote_solver(job.servers[first:] + job.servers[:first])
    else:
        solver = _solver(job.backend, job.params)
    config = PipelineConfig(
        options=job.options,
        resize=job.resize,
        solver=solver,
        decoder=job.decoder,
        fps=job.fps,
        solver_elsewhere=bool(job.servers),
    )
    pipeline = Pipeline(job.source, config, threads=worker.threads, max_threads=worker.jobs)
    with pipeline.clock.stage("fingerprint"):
        state = _fingerprint(job.source)
    parts = PartsFolder(job.store)
    with Sink(parts, job.source.video_id, job.options, state, segment_frames=job.segment_frames) as sink:
        decoded = pipeline.run(sink, worker.report)
        record = _record(job, decoded, sink, state, solver)
        with pipeline.clock.stage("write"):
            record = sink.commit(record)
    return VideoOutcome(
        video_id=job.source.video_id,
        source=str(job.source.path),
        status="stored",
        label=record.label,
        n_frames=record.n_frames,
        n_flow=record.n_flow,
        truncated=record.status == "truncated",
        stages=dict(pipeline.clock.seconds),
        warnings=_warnings(record, decoded, job.options),
    )


def _fingerprint(source: VideoSource) -> SourceFingerprint:
    try:
        return fingerprint(source.path)
    except OSError:
        # The decoder gives the better word for a file that is missing or unreadable.
        return SourceFingerprint(name=source.path.name, bytes=0, mtime_ns=0, sha256="")


def _record(job: Job, decoded: Decoded, sink: Sink, state: SourceFingerprint, solver: Solver) -> VideoRecord:
    info, report = decoded.info, decoded.report
    return VideoRecord(
        video_id=job.source.video_id,
        label=job.source.label,
        width=sink.width,
        height=sink.height,
        source_width=info.width,
        source_height=info.height,
        rotation=info.rotation,
        fps=decoded.fps,
        n_frames=decoded.n_frames,
        n_flow=decoded.n_flow,
        backend=solver.name,
        device=solver.device,
        opencv_version=solver.version if solver.name == "opencv" else "",
        status="truncated" if report.truncated else "ok",
        status_reason="; ".join(filter(None, [report.truncated_reason, *decoded.notes])),
        skipped_frames=report.skipped_frames,
        pts_repaired=int(report.pts_repaired),
        source_name=state.name,
        source_bytes=state.bytes,
        source_mtime_ns=state.mtime_ns,
        source_sha256=state.sha256,
        deviations="; ".join(solver.deviations),
        start_seconds=job.source.start_seconds,
        end_seconds=job.source.end_seconds,
    )


def _warnings(record: VideoRecord, decoded: Decoded, options: StoreOptions) -> tuple[str, ...]:
    found = list(decoded.notes)
    if record.status == "truncated":
        found.append(f"truncated: {decoded.report.truncated_reason}")
    if record.clipped_fraction > CLIPPED_WARNING:
        found.append(
            f"{record.clipped_fraction:.1%} of the flow lies outside the range of --flow-codec "
            f"{options.flow_codec} and was clipped (largest {record.flow_max_px:.1f} px); "
            f"use --flow-codec {DEFAULT_FLOW_CODEC} or a larger --bound"
        )
    return tuple(found)
