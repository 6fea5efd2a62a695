"""Many videos → one store: `extract`, or `prepare` and `run` by themselves."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import operator
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from flowkit.errors import BackendUnavailableError, StoreError
from flowkit.executor import Executor, LocalExecutor
from flowkit.extraction.config import ExtractConfig, MethodFields, decided_config, methods_of, store_options
from flowkit.extraction.engines import EngineChoice, check_elsewhere, tvl1_backend, tvl1_params
from flowkit.extraction.held import reading_order
from flowkit.extraction.patience import patience_seconds, source_bytes
from flowkit.extraction.plan import check_options, make_plan
from flowkit.extraction.scratch import Scratch, scratch_folder
from flowkit.extraction.sources import VideoSource, as_sources
from flowkit.extraction.store_run import (
    OnOutcome,
    OnProgress,
    StoreSetup,
    VideoOutcome,
    failed_video,
    fill_store,
)
from flowkit.extraction.timing import PhaseClock
from flowkit.extraction.worker import VideoTask, extract_video
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.remote import Location
from flowkit.store.inventory import inventory
from flowkit.store.record import Failure
from flowkit.tvl1.backend import BackendName, load_backend
from flowkit.tvl1.cuda.device import count_gpus
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.server.client import ServerConfig, Servers
from flowkit.typing import Decoder
from flowkit.video.reader import choose_decoder
from flowkit.workers.board import Blackboard

REASONS: Final[Reasons] = ((StoreError, "store_error"), (OSError, "io_error"))
"""Errors that fail a video, beside those of every task: those of its part."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractSetup(StoreSetup):
    """An extraction ready to run: the plan, the chosen engine and decoder, and why.

    Attributes
    ----------
    store : Path
        The store's file.
    options : StoreOptions
        The options that the store has or gets.
    plan : Plan
        The sources by what is to be done with them.
    found : Inventory
        Contents of the store and of its parts before the run.
    config : ExtractConfig
    methods : tuple of MethodFields
        Every method with the flow fields that it computes, that of `flow` first.
    backend : EngineChoice or None
        The engine of TV-L1, and the reason for it; None where no field is TV-L1.
    decoder : {"av", "opencv"}
    decoder_reason : str
    """

    config: ExtractConfig
    methods: tuple[MethodFields, ...]
    backend: EngineChoice | None
    decoder: Decoder
    decoder_reason: str

    @property
    def tvl1(self) -> tuple[TVL1Params, ...]:
        """The sets of TV-L1 parameters, each once; empty where no field is TV-L1."""
        return tvl1_params(self.methods)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractReport:
    """The outcome of a run.

    Attributes
    ----------
    outcomes : tuple of VideoOutcome
        This run's videos, those left alone because their source has changed first.
    already_stored : int
        Videos that were in the store before.
    not_tried : int
        Videos that were left when a full disk or `fail_fast` ended the run.
    stages : dict
        Seconds of work per stage of `flowkit.extraction.timing.STAGES`, summed over threads.
    phases : dict
        Elapsed seconds of `flowkit.extraction.timing.PHASES`; empty if no video was tried.
    """

    outcomes: tuple[VideoOutcome, ...]
    already_stored: int
    not_tried: int
    stages: dict[str, float]
    phases: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The run's failures, in the order in which they happened."""
        return tuple(outcome.failure for outcome in self.outcomes if outcome.failure is not None)

    @property
    def stored(self) -> int:
        """Number of videos that this run stored."""
        return sum(outcome.status == "stored" for outcome in self.outcomes)


def extract(
    sources: str | Location | VideoSource | Iterable[str | Location | VideoSource],
    store: Path | str,
    *,
    config: ExtractConfig | None = None,
    labels: Sequence[str] | None = None,
    on_progress: Callable[[Progress[VideoOutcome]], None] | None = None,
    executor: Executor | None = None,
) -> ExtractReport:
    """Extract frames and flow of videos into a store; a repeated call does only what is missing.

    Parameters
    ----------
    sources : str, Path or VideoSource, or an iterable of them
        The videos. Paths are files, folders, archives and addresses as `find_sources` takes them; a
        `VideoSource` gives a video's id, label and times as well.
    store : Path or str
        The store's file; may exist.
    config : ExtractConfig, optional
        Every choice; default: `ExtractConfig()`.
    labels : sequence of str, optional
        Class names in their order; default: the labels of the videos, sorted.
    on_progress : callable, optional
        Called with a `Progress` when a video ends and about five times a second between.
    executor : Executor, optional
        Runs the videos; default: `config.jobs` processes of this machine.

    Returns
    -------
    ExtractReport

    Raises
    ------
    InputError
        A path does not exist or holds no video; two videos have one id, or one's is a folder of another's.
    InvalidParameterError, BackendError
        A choice cannot be met on this machine.
    StoreError
        The store was made with other options, cannot be read or written, or is being written.
    """
    elsewhere = executor is not None and executor.elsewhere
    setup = prepare(sources, store, config=config, elsewhere=elsewhere)
    return run(setup, labels=labels, on_progress=on_progress, executor=executor)


def prepare(
    sources: str | Location | VideoSource | Iterable[str | Location | VideoSource],
    store: Path | str,
    *,
    config: ExtractConfig | None = None,
    elsewhere: bool = False,
) -> ExtractSetup:
    """Choose engine and decoder and compare the sources with the store; write nothing.

    Parameters
    ----------
    sources, store, config
        As for `extract`.
    elsewhere
        A cluster's workers will compute: backend "auto" is the CPU engine, "cuda" is not looked for here.

    Returns
    -------
    ExtractSetup
        The plan of `extract`; `flowkit.extraction.run.run` carries it out.

    Raises
    ------
    InputError
        A path does not exist or holds no video; two videos have one id.
    InvalidParameterError, BackendError
        A choice cannot be met on this machine.
    StoreError
        The store exists and was made with other options, or cannot be read.
    """
    store, videos = Path(store), as_sources(sources)
    found = inventory(store)
    config = config or ExtractConfig()
    decoder, reason = choose_decoder(config.decoder)
    config = decided_config(config, found.options, decoder=decoder)
    methods = methods_of(config)
    backend = tvl1_backend(config, tvl1_params(methods), elsewhere=elsewhere)
    options = store_options(config, backend=None if backend is None else backend.name)
    check_options(options, found.options, store)
    return ExtractSetup(
        store=store,
        config=config,
        options=options,
        plan=make_plan(videos, found, update=config.update),
        methods=methods,
        backend=backend,
        decoder=decoder,
        decoder_reason=reason,
        found=found,
    )


def run(
    setup: ExtractSetup,
    *,
    labels: Sequence[str] | None = None,
    on_progress: OnProgress | None = None,
    executor: Executor | None = None,
) -> ExtractReport:
    """Carry out a setup's plan, then pack the finished videos into the store.

    Parameters
    ----------
    setup : ExtractSetup
        From `prepare`.
    labels, on_progress, executor
        As in `extract`.

    Raises
    ------
    InputError
        A video's id is a folder of another's in the store, or the log cannot be written.
    StoreBusyError
        Another extraction is writing this store.
    NoSpaceError
        The disk filled up while packing; finished videos stay as parts.
    KeyboardInterrupt
        Workers are ended first; finished videos stay as parts, a repeated run goes on.
    """
    clock = PhaseClock()

    def work(on_outcome: OnOutcome, on_tick: OnProgress) -> list[VideoOutcome]:
        def noted(outcome: VideoOutcome) -> None:
            clock.end_video(outcome.seconds)
            on_outcome(outcome)

        return _extract_all(setup, noted, on_tick, executor)

    outcomes = fill_store(
        setup,
        work,
        command="extract",
        on_progress=on_progress,
        log_file=setup.config.log_file,
        changed="the file has changed since it was stored; --update extracts it again, the store keeps the "
        "old state",
        shard_bytes=setup.config.shard_bytes,
        labels=labels,
    )
    stages = collections.Counter[str]()
    for outcome in outcomes:
        stages.update(outcome.stages)
    return ExtractReport(
        outcomes=outcomes,
        already_stored=len(setup.plan.stored),
        not_tried=len(setup.plan.todo) + len(setup.plan.changed) - len(outcomes),
        stages=dict(stages),
        phases=clock.phases(),
    )


def _extract_all(
    setup: ExtractSetup,
    on_outcome: OnOutcome,
    on_progress: OnProgress,
    executor: Executor | None,
) -> list[VideoOutcome]:
    if not setup.plan.todo:
        Blackboard.remove_dead()  # of a run that was killed when all was extracted
        return []
    order = reading_order([source.held for source in setup.plan.todo])
    todo = [setup.plan.todo[k] for k in order]
    # Workers are ended first: else they would take the servers' end for a fault.
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as workers:
        if executor is None:
            executor = workers.enter_context(_executor(setup))
        check_elsewhere(setup.backend, executor)
        scratch = _make_scratch(setup, stack)
        servers = _start_servers(setup, stack)
        chosen = "auto" if setup.backend is None else setup.backend.name
        # Without a server there is none that could be left: then another engine was taken.
        backend: BackendName = "cpu" if servers is None else chosen
        sizes = [source_bytes(source) for source in todo]
        patience = {
            source.video_id: patience_seconds(setup.config.video_timeout, size)
            for source, size in zip(todo, sizes, strict=True)
        }
        return run_tasks(
            TaskKind(
                work=extract_video, fail=_failed, reasons=REASONS, name=operator.attrgetter("source.video_id")
            ),
            [_task(setup, source, servers or (), backend, scratch=scratch) for source in todo],
            jobs=setup.config.jobs,
            executor=executor,
            on_outcome=on_outcome,
            on_progress=on_progress,
            weights=sizes,
            failed=len(setup.plan.changed),
            fail_fast=setup.config.fail_fast,
            patience=lambda task: patience[task.source.video_id],
        )


def _executor(setup: ExtractSetup) -> LocalExecutor:
    """Return worker processes: one with all cores where a method has a device to itself."""
    jobs, alone = setup.config.jobs, any(each.method.one_process for each in setup.methods)
    executor = LocalExecutor(1 if alone else jobs, threads=jobs)
    if server_configs(setup):
        # They import while a GPU is made ready.
        executor.load(extract_video, len(setup.plan.todo))
    return executor


def _failed(task: VideoTask, reason: str, detail: str) -> VideoOutcome:
    return failed_video(task.source, reason, detail)


def _make_scratch(setup: ExtractSetup, stack: contextlib.ExitStack) -> Scratch | None:
    """Make the scratch folder where a video of the plan needs it; it is removed with the stack."""
    if all(source.held is None for source in setup.plan.todo):
        return None
    return stack.enter_context(scratch_folder(setup.config.scratch, setup.config.scratch_bytes))


def _start_servers(setup: ExtractSetup, stack: contextlib.ExitStack) -> tuple[str, ...] | None:
    """Start one process per GPU and return their addresses; engines of the CPU live in the workers.

    None: no server starts, and with backend "auto" the CPU engine does the work, with a warning.
    """
    configs = server_configs(setup)
    if not configs:
        return ()
    try:
        servers = stack.enter_context(Servers(configs, setup.tvl1[0]))
    except BackendUnavailableError as error:
        if setup.config.backend != "auto":
            raise
        load_backend("cpu", setup.tvl1[0])
        warnings.warn(f"{error}; the CPU engine computes instead", RuntimeWarning, stacklevel=2)
        return None
    for cause in servers.failed:
        warnings.warn(f"{cause}; the other GPUs do its work", RuntimeWarning, stacklevel=2)
    return tuple(servers.addresses)


def server_configs(setup: ExtractSetup) -> list[ServerConfig]:
    """Return the servers that an extraction needs: with backend "cuda" one for each GPU."""
    if setup.backend is None or setup.backend.name != "cuda" or setup.backend.elsewhere:
        return []
    gpus = setup.config.gpus or range(count_gpus())
    return [ServerConfig(backend="cuda", gpu=gpu, memory_bytes=setup.config.gpu_memory_bytes) for gpu in gpus]


def _task(
    setup: ExtractSetup,
    source: VideoSource,
    servers: tuple[str, ...],
    backend: BackendName,
    *,
    scratch: Scratch | None = None,
) -> VideoTask:
    config = setup.config
    return VideoTask(
        source=source,
        store=setup.store,
        options=setup.options,
        methods=setup.methods,
        backend=backend,
        resize=config.resize,
        decoder=setup.decoder,
        fps=config.fps,
        deinterlace=bool(config.deinterlace),
        segment_frames=config.segment_frames,
        servers=servers,
        takeover=config.backend == "auto",
        scratch=scratch,
        gpu_memory_bytes=config.gpu_memory_bytes,
    )
