"""Many videos → one store: plan, run, pack. `pipeline` has the work on one video."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal

from flowkit.errors import InvalidParameterError, NoSpaceError
from flowkit.executor import Executor, LocalExecutor
from flowkit.frames import ResizeRule
from flowkit.inputs import VideoSource
from flowkit.job import Job, VideoOutcome, failed, run_job
from flowkit.plan import Plan, check_options, make_plan
from flowkit.store.inventory import Inventory, inventory
from flowkit.store.pack import finalize
from flowkit.store.parts import PartsFolder
from flowkit.store.schema import Failure, FieldOptions, StoreOptions
from flowkit.tvl1.backend import BackendChoice, choose_backend
from flowkit.tvl1.params import DEFAULT_PRESET, TVL1Params, preset_of, resolve_params
from flowkit.tvl1.remote import ServerConfig, Servers, count_gpus
from flowkit.video import default_decoder

DEFAULT_SHARD_BYTES = 4 << 30
# Some minutes of one core's work, and seconds to join.
DEFAULT_SEGMENT_FRAMES = 600


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractConfig:
    """Every choice of an extraction.

    Parameters
    ----------
    params : TVL1Params
        What TV-L1 computes; `resolve_params("tsn")` gives a preset.
    backend : str
        "auto", "cpu", "cuda", "opencv" or "reference". Only "auto" falls back, and says so.
    resize : ResizeRule
        Size of the stored frames; flow is computed at that size, in its pixels.
    step : int
        Frame k is paired with frame k + step, >= 1.
    fps : float or None
        Resample by time to this rate, > 0; the rate of a folder of images (25 without it).
    backward : bool
        Also store the flow from frame k + step to k, as the field `flow_backward`.
    flow_codec : {"i8", "i16", "jpeg"}
        How flow is stored; `bound_px` is the range of "jpeg".
    frame_codec : {"jpeg", "none"}
        Whether RGB frames are stored; `jpeg_quality` in [1, 100].
    decoder : {"auto", "av", "opencv"}
        What reads the videos; "auto" is PyAV where it is installed.
    gpus : tuple of int
        With backend "cuda": the GPUs to use, one process each; empty is all of them.
    gpu_memory_bytes : int
        Most device memory that each takes; 0 is most of what is free.
    jobs : int
        Worker processes, >= 1.
    shard_bytes : int
        Beyond this size the store is a master file and shards.
    fail_fast : bool
        Stop at the first video that fails.
    update : bool
        Redo videos whose source has changed since.
    """

    params: TVL1Params = dataclasses.field(default_factory=lambda: resolve_params(DEFAULT_PRESET))
    backend: str = "auto"
    resize: ResizeRule = dataclasses.field(default_factory=ResizeRule)
    step: int = 1
    fps: float | None = None
    backward: bool = False
    flow_codec: Literal["i8", "i16", "jpeg"] = "i8"
    bound_px: float = 20.0
    frame_codec: Literal["jpeg", "none"] = "jpeg"
    jpeg_quality: int = 95
    decoder: Literal["auto", "av", "opencv"] = "auto"
    gpus: tuple[int, ...] = ()
    gpu_memory_bytes: int = 0
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    fail_fast: bool = False
    update: bool = False
    segment_frames: int = DEFAULT_SEGMENT_FRAMES

    def __post_init__(self) -> None:
        """Check what no other dataclass checks; `StoreOptions` checks the rest."""
        for name, ok, expected in (
            ("jobs", self.jobs >= 1, ">= 1"),
            ("fps", self.fps is None or 0 < self.fps < 100_000, "> 0 frames per second"),
            ("segment_frames", self.segment_frames >= 1, ">= 1"),
            ("shard_bytes", self.shard_bytes >= 1 << 20, "at least 1 MiB"),
        ):
            if not ok:
                raise InvalidParameterError(f"{name} must be {expected}, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """An extraction ready to run: the plan, the chosen engine and decoder, and why."""

    store: Path
    config: ExtractConfig
    options: StoreOptions
    plan: Plan
    backend: BackendChoice
    decoder: str
    decoder_reason: str
    found: Inventory


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; `outcome` is the video that has just ended, if one has.

    `frames` counts decoded frames so far, `done` videos that ended, `fraction` is the share of
    the sources' bytes that has been worked through, in [0, 1].
    """

    done: int
    total: int
    failed: int
    frames: int
    fraction: float
    outcome: VideoOutcome | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractReport:
    """What a run came to.

    `outcomes` has this run's videos; `not_tried` counts those that were left when a full disk or
    `fail_fast` ended it; `stages` sums seconds of work per stage.
    """

    outcomes: tuple[VideoOutcome, ...]
    already_stored: int
    not_tried: int
    stages: dict[str, float]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The run's failures, in the order in which they happened."""
        return tuple(outcome.failure for outcome in self.outcomes if outcome.failure is not None)

    @property
    def stored(self) -> int:
        """How many videos this run stored."""
        return sum(outcome.status == "stored" for outcome in self.outcomes)


def prepare(sources: Sequence[VideoSource], store: Path, config: ExtractConfig) -> Setup:
    """Choose engine and decoder and compare the sources with the store; writes nothing.

    Raises
    ------
    InvalidParameterError, BackendError
        A choice cannot be met on this machine.
    StoreError
        The store exists and was made with other options, or cannot be read.
    """
    backend = choose_backend(config.backend, config.params)
    if config.gpus and backend.solver.name != "cuda":
        raise InvalidParameterError(
            f"gpus {list(config.gpus)} were asked for, but the backend is {backend.reason}"
        )
    decoder, reason = (config.decoder, "asked for")
    if config.decoder == "auto":
        decoder, reason = default_decoder()
    options = store_options(config, backend)
    found = inventory(store)
    check_options(options, found.options, store)
    return Setup(
        store=store,
        config=config,
        options=options,
        plan=make_plan(sources, found, update=config.update),
        backend=backend,
        decoder=decoder,
        decoder_reason=reason,
        found=found,
    )


def store_options(config: ExtractConfig, backend: BackendChoice) -> StoreOptions:
    """Return the part of the configuration that decides the store's contents."""
    field = FieldOptions(
        name="flow", tvl1_preset=preset_of(config.params), tvl1_params=config.params.to_json()
    )
    fields: tuple[FieldOptions, ...] = (field,)
    if config.backward:
        fields += (dataclasses.replace(field, name="flow_backward"),)
    return StoreOptions(
        fields=fields,
        step=config.step,
        flow_codec=config.flow_codec,
        bound_px=config.bound_px,
        frame_codec=config.frame_codec,
        jpeg_quality=config.jpeg_quality,
        resize=config.resize.to_json(),
        sampling=json.dumps({"fps": config.fps}),
        engine_family="opencv" if backend.solver.name == "opencv" else "flowkit",
    )


def run(
    setup: Setup,
    *,
    labels: Sequence[str] | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    executor: Executor | None = None,
) -> ExtractReport:
    """Do what a setup plans, then pack the finished videos into the store.

    Parameters
    ----------
    setup : Setup
        From `prepare`.
    labels : sequence of str, optional
        Class names in their order; sorted labels of the videos without it.
    on_progress : callable
        Called with a `Progress` when a video ends and about five times a second between.
    executor : Executor, optional
        What runs the videos; `config.jobs` processes of this machine without it.

    Raises
    ------
    StoreBusyError
        Another extraction is writing this store.
    NoSpaceError
        The disk filled up while packing; finished videos stay as parts.
    KeyboardInterrupt
        Workers are ended first; finished videos stay as parts, a repeated run goes on.
    """
    parts = PartsFolder(setup.store)
    with parts.lock():
        parts.remove_dead_temporaries()
        outcomes, stages = [], collections.Counter[str]()
        for changed in setup.plan.changed:
            outcomes.append(_changed(changed))
        try:
            # Closed even when the loop is left early: no worker lives on behind it.
            with contextlib.closing(_run_jobs(setup, len(outcomes), on_progress, executor)) as running:
                for outcome in running:
                    outcomes.append(outcome)
                    stages.update(outcome.stages)
                    if outcome.failure and _must_stop(outcome.failure, setup.config):
                        break
        finally:
            # Ended workers leave temporaries; a run that is repeated would sweep them too.
            parts.remove_dead_temporaries()
        report = ExtractReport(
            outcomes=tuple(outcomes),
            already_stored=len(setup.plan.stored),
            not_tried=len(setup.plan.todo) + len(setup.plan.changed) - len(outcomes),
            stages=dict(stages),
        )
        return _pack(setup, report, labels)


def _must_stop(failure: Failure, config: ExtractConfig) -> bool:
    # A full disk fails every later video in the same way.
    return config.fail_fast or failure.reason == NoSpaceError.reason


def _run_jobs(
    setup: Setup,
    already_failed: int,
    on_progress: Callable[[Progress], None],
    executor: Executor | None,
) -> Generator[VideoOutcome, None, None]:
    jobs = [_job(setup, source) for source in setup.plan.todo]
    if not jobs:
        return
    with contextlib.ExitStack() as stack:
        servers = _start_servers(setup, stack)
        jobs = [dataclasses.replace(job, servers=servers) for job in jobs]
        # More workers than videos are of use: their cores go to the videos' threads.
        executor = executor or stack.enter_context(LocalExecutor(setup.config.jobs))
        meter = _Meter([job.source for job in jobs], already_failed, executor, on_progress)
        running = stack.enter_context(contextlib.closing(executor.run(run_job, jobs, on_wait=meter.tick)))
        for ended in running:
            outcome = ended.result
            if outcome is None:
                outcome = failed(ended.task.source, "worker_died", ended.died)
            meter.count(ended.task.source, outcome)
            yield outcome


def _start_servers(setup: Setup, stack: contextlib.ExitStack) -> tuple[str, ...]:
    """Start one process per GPU and return their addresses; engines of the CPU live in the workers."""
    configs = server_configs(setup)
    if not configs:
        return ()
    servers = stack.enter_context(Servers(configs, setup.config.params))
    for cause in servers.failed:
        warnings.warn(f"{cause}; the other GPUs do its share", RuntimeWarning, stacklevel=2)
    return tuple(servers.addresses)


def server_configs(setup: Setup) -> list[ServerConfig]:
    """Return the servers that an extraction needs: with backend "cuda" one for each GPU."""
    if setup.backend.solver.name != "cuda":
        return []
    gpus = setup.config.gpus or range(count_gpus())
    return [ServerConfig(backend="cuda", gpu=gpu, memory_bytes=setup.config.gpu_memory_bytes) for gpu in gpus]


def _job(setup: Setup, source: VideoSource) -> Job:
    config = setup.config
    return Job(
        source=source,
        store=setup.store,
        options=setup.options,
        params=config.params,
        backend=setup.backend.solver.name,
        resize=config.resize,
        decoder=setup.decoder,
        fps=config.fps,
        segment_frames=config.segment_frames,
    )


def _changed(source: VideoSource) -> VideoOutcome:
    return failed(
        source,
        "source_changed",
        "the file has changed since it was stored; --update extracts it again, the store keeps the old state",
    )


class _Meter:
    """Adds up what ended and what the workers report between."""

    def __init__(
        self,
        sources: Sequence[VideoSource],
        failed: int,
        executor: Executor,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._executor = executor
        self._weights = {source.video_id: _size(source.path) for source in sources}
        self._whole = sum(self._weights.values())
        self._total = len(sources)
        self._done, self._failed, self._frames, self._bytes = 0, failed, 0, 0
        self._on_progress = on_progress

    def tick(self) -> None:
        self._tell(None)

    def count(self, source: VideoSource, outcome: VideoOutcome) -> None:
        self._done += 1
        self._failed += outcome.failure is not None
        self._frames += outcome.n_frames
        self._bytes += self._weights[source.video_id]
        self._tell(outcome)

    def _tell(self, outcome: VideoOutcome | None) -> None:
        board = self._executor.board
        flying = [board.progress(slot) for slot in range(self._executor.jobs)]
        mean = self._whole / self._total
        partly = self._bytes + sum(fraction for _, fraction in flying) * mean
        self._on_progress(
            Progress(
                done=self._done,
                total=self._total,
                failed=self._failed,
                frames=self._frames + sum(frames for frames, _ in flying),
                fraction=min(1.0, partly / self._whole),
                outcome=outcome,
            )
        )


def _size(path: Path) -> int:
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return 1 + sum(file.stat().st_size for file in files)
    except OSError:
        return 1


def _pack(setup: Setup, report: ExtractReport, labels: Sequence[str] | None) -> ExtractReport:
    tried = {str(source.path) for source in setup.plan.todo}
    earlier = [failure for failure in setup.found.failures if failure.source not in tried]
    now = [failure for failure in report.failures if failure.reason != "source_changed"]
    finalize(
        setup.store,
        options=setup.options,
        labels=labels,
        failures=[*earlier, *now],
        shard_bytes=setup.config.shard_bytes,
        replace=setup.plan.replaced,
    )
    return report
