"""Many videos → one store: plan, run, pack. `pipeline` has the work on one video."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from flowkit.errors import InvalidParameterError, NoSpaceError
from flowkit.executor import Executor, LocalExecutor
from flowkit.extract_config import DEFAULT_SHARD_BYTES, ExtractConfig, store_options
from flowkit.inputs import VideoSource
from flowkit.job import Job, VideoOutcome, failed, run_job
from flowkit.plan import Plan, check_options, make_plan
from flowkit.progress import Meter, Progress
from flowkit.store.inventory import Inventory, inventory
from flowkit.store.schema import Failure, StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.parts_folder import PartsFolder
from flowkit.tvl1.backend import BackendChoice, choose_backend
from flowkit.tvl1.remote import ServerConfig, Servers, count_gpus
from flowkit.video import default_decoder

__all__ = [
    "DEFAULT_SHARD_BYTES",
    "ExtractConfig",
    "ExtractReport",
    "Progress",
    "Setup",
    "prepare",
    "run",
    "server_configs",
]


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
    options = store_options(config, backend=backend.solver.name)
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
        meter = Meter([job.source for job in jobs], already_failed, executor, on_progress)
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
