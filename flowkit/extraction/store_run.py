"""A run that adds videos to a store, extracted or imported: lock, sweep, work, pack."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from flowkit.extraction.plan import Plan
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.watch import RunWatch
from flowkit.jobs import Progress
from flowkit.store.inventory import Inventory
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import Failure, check_id_set, storable
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize, merged_labels
from flowkit.store.write.pack_ahead import PackAhead


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoOutcome:
    """The end of one video of a run.

    Attributes
    ----------
    video_id, source, label : str
        Id, path and class of the video.
    status : {"stored", "already_stored", "failed"}
    n_frames, n_flow : int
        Frames and flow fields stored.
    truncated : bool
        The source is cut short or damaged; what decodes is stored.
    seconds : float
        Elapsed time.
    stages : dict
        Seconds of work per stage, summed over threads.
    warnings : tuple of str
    failure : Failure or None
        Its line of the ledger, if it failed.
    """

    video_id: str
    source: str
    status: Literal["stored", "already_stored", "failed"]
    label: str = ""
    n_frames: int = 0
    n_flow: int = 0
    truncated: bool = False
    seconds: float = 0.0
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def name(self) -> str:
        """The video's id."""
        return self.video_id

    @property
    def reason(self) -> str:
        """Reason of the failure, one word; "" where there is none."""
        return self.failure.reason if self.failure is not None else ""


OnOutcome: TypeAlias = Callable[[VideoOutcome], None]
OnProgress: TypeAlias = Callable[[Progress[VideoOutcome]], None]


def failed_video(source: VideoSource, reason: str, detail: str) -> VideoOutcome:
    """Return the outcome of a video that failed."""
    return VideoOutcome(
        video_id=source.video_id,
        source=source.name,
        status="failed",
        label=source.label,
        failure=Failure(
            source=source.name,
            reason=reason,
            detail=detail,
            video_id=source.video_id,
            start_seconds=source.start_seconds,
            end_seconds=source.end_seconds,
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreSetup:
    """A store as it was found, and the plan of the videos to add."""

    store: Path
    options: StoreOptions
    plan: Plan
    found: Inventory


def fill_store(
    setup: StoreSetup,
    work: Callable[[OnOutcome, OnProgress], Sequence[VideoOutcome]],
    *,
    command: str,
    changed: str,
    shard_bytes: int,
    on_progress: OnProgress | None = None,
    log_file: Path | None = None,
    labels: Sequence[str] | None = None,
    known: Sequence[Failure] = (),
) -> tuple[VideoOutcome, ...]:
    """Do the work on a locked store, and pack the finished parts into it meanwhile; return every outcome.

    The ledger has this run's failures and those earlier ones that this run did not look at. A source that
    has changed is an outcome, and no line of the ledger: the store has it.

    Parameters
    ----------
    setup : StoreSetup
        The plan.
    work : callable
        Called as `work(on_outcome, on_progress)`: commits the parts of `setup.plan.todo`, calls `on_outcome`
        with the outcome of each that was tried when it ends, `on_progress` also between, and returns all.
    command : str
        What runs, for the state and the log.
    changed : str
        Detail of the failure of a source that has changed since it was stored.
    shard_bytes : int
        Beyond this size the store is a master file and shards.
    on_progress : callable, optional
        Called with each `Progress` of the work.
    log_file : Path, optional
        Gets a JSON line an event; see `flowkit.extraction.watch`.
    labels : sequence of str, optional
        Class names in their order; without it sorted labels of the videos, with those of failed ones
        where full shards are committed before the end: every shard of a run has the same.
    known : sequence of Failure
        Failures from before the run.

    Raises
    ------
    InputError
        An id of the store, of its parts or of the plan is a folder of another, or the log cannot be
        written; no work is done.
    StoreBusyError
        Another run is writing this store.
    StoreUnreadableError
        The folder of parts is gone; the store is not written.
    NoSpaceError
        The disk filled up while packing; finished videos stay as parts.
    """
    # Before hours of work, and before a shard is committed that no store could have.
    ids = {video_id: str(path) for video_id, path in setup.found.paths.items()}
    check_id_set(ids | {source.video_id: source.name for source in setup.plan.todo})
    parts = PartsFolder(setup.store)
    watch = RunWatch(
        parts,
        command,
        total=len(setup.plan.todo),
        already_stored=len(setup.plan.stored),
        log_file=log_file,
        on_progress=on_progress,
    )
    with parts.lock(), watch, _packing_ahead(setup, parts, labels, shard_bytes) as ahead:

        def on_outcome(outcome: VideoOutcome) -> None:
            if outcome.status == "stored":
                ahead.add(parts.part_path(outcome.video_id))

        try:
            outcomes = work(on_outcome, watch.note)
        finally:
            # Ended workers leave temporaries; a run that is repeated would sweep them too.
            parts.remove_dead_temporaries()
        # Without its parts a store would be written of what is left: of nothing, mostly.
        parts.check_held()
        now = [outcome.failure for outcome in outcomes if outcome.failure is not None]
        watch.packing()
        finalize(
            setup.store,
            options=setup.options,
            labels=labels,
            failures=[*_earlier_failures(setup, known), *known, *now],
            shard_bytes=shard_bytes,
            replace=setup.plan.replaced,
            ahead=ahead.finish(),
            found=setup.found,
        )
    left_alone = [failed_video(source, "source_changed", changed) for source in setup.plan.changed]
    return (*left_alone, *outcomes)


@contextlib.contextmanager
def _packing_ahead(
    setup: StoreSetup, parts: PartsFolder, labels: Sequence[str] | None, shard_bytes: int
) -> Iterator[PackAhead]:
    """Sweep what dead processes left, and yield what packs finished parts, those of earlier runs first."""
    parts.remove_dead_temporaries()
    planned = _planned_labels(setup) if labels is None else labels
    with PackAhead(setup.store, setup.options, labels=planned, shard_bytes=shard_bytes) as ahead:
        for part in _parts_to_keep(setup, parts):
            ahead.add(part)
        yield ahead


def _earlier_failures(setup: StoreSetup, known: Sequence[Failure]) -> list[Failure]:
    """Return the failures of the store's ledger that this run did not look at."""
    looked_at = {(source.name, source.video_id) for source in setup.plan.todo}
    looked_at |= {(failure.source, failure.video_id) for failure in known}
    # Ledgers of an earlier flowkit have no ids: there the source decides.
    paths = {path for path, _ in looked_at}
    return [
        failure
        for failure in setup.found.failures
        if (failure.source, failure.video_id) not in looked_at
        and (failure.video_id or failure.source not in paths)
    ]


def _planned_labels(setup: StoreSetup) -> tuple[str, ...]:
    """Return the class names that the store has once all of the plan is done."""
    there = [record.label for record in setup.found.records.values()]
    return merged_labels(setup.found.labels, [*there, *(storable(each.label) for each in setup.plan.todo)])


def _parts_to_keep(setup: StoreSetup, parts: PartsFolder) -> list[Path]:
    """Return the parts of earlier runs that this one does not replace."""
    todo = {source.video_id for source in setup.plan.todo}
    found = setup.found.paths.items()
    return [path for video_id, path in found if path.parent == parts.path and video_id not in todo]
