"""A run that adds videos to a store, extracted or imported: plan, lock, sweep, work, pack."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from flowkit.errors import StoreOptionsError
from flowkit.extraction.sources import VideoSource
from flowkit.store.inventory import Inventory
from flowkit.store.record import Failure, SourceFingerprint, VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from flowkit.store.write.parts_folder import PartsFolder


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The sources of a run, by what is to be done with them.

    Attributes
    ----------
    todo : tuple of VideoSource
        To be extracted.
    stored : tuple of VideoSource
        In the store already, from the same file.
    changed : tuple of VideoSource
        In the store from another state of its file; left alone.
    replaced : frozenset of str
        Ids of `todo` that are in the store now (asked for with `update`).
    """

    todo: tuple[VideoSource, ...]
    stored: tuple[VideoSource, ...]
    changed: tuple[VideoSource, ...]
    replaced: frozenset[str]


def make_plan(sources: Iterable[VideoSource], inventory: Inventory, *, update: bool = False) -> Plan:
    """Compare the sources with the store.

    A source is the same if size and modification time are, or else its SHA-256.
    """
    todo, stored, changed, replaced = [], [], [], set()
    for source in sources:
        record = inventory.records.get(source.video_id)
        if record is None:
            todo.append(source)
        elif _is_same(source, record):
            stored.append(source)
        elif update:
            todo.append(source)
            replaced.add(source.video_id)
        else:
            changed.append(source)
    return Plan(todo=tuple(todo), stored=tuple(stored), changed=tuple(changed), replaced=frozenset(replaced))


def check_options(asked: StoreOptions, stored: StoreOptions | None, store: Path) -> None:
    """Refuse to continue a store with other options.

    Raises
    ------
    StoreOptionsError
        Options differ; the message names each one, as stored and as asked.
    """
    differences = stored.differences(asked) if stored is not None else []
    if differences:
        raise StoreOptionsError(
            f"{store} was made with other options: {'; '.join(differences)}; "
            "repeat its options, or extract into another file"
        )


def fingerprint(path: Path, *, with_hash: bool = True) -> SourceFingerprint:
    """Return the state of a source: size, modification time, SHA-256.

    A folder of images counts as the list of its files; without `with_hash` the hash is "".

    Raises
    ------
    OSError
        The source cannot be read.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return SourceFingerprint(
        name=path.name,
        bytes=sum(stat.st_size for stat in stats),
        mtime_ns=max((stat.st_mtime_ns for stat in stats), default=0),
        sha256=_sha256(files) if with_hash else "",
    )


def _sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file():
            continue
        if len(files) > 1:
            digest.update(os.fsencode(file.name) + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _is_same(source: VideoSource, record: VideoRecord) -> bool:
    if (record.start_seconds, record.end_seconds) != source.times:
        return False
    try:
        now = fingerprint(source.path, with_hash=False)
        if now.bytes == record.source_bytes and now.mtime_ns != record.source_mtime_ns:
            now = fingerprint(source.path)
    except OSError:
        # A file that is gone cannot have changed: the store keeps what it has.
        return True
    return record.fingerprint.matches(now)


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


def failed_video(source: VideoSource, reason: str, detail: str) -> VideoOutcome:
    """Return the outcome of a video that failed."""
    return VideoOutcome(
        video_id=source.video_id,
        source=str(source.path),
        status="failed",
        label=source.label,
        failure=Failure(source=str(source.path), reason=reason, detail=detail),
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
    work: Callable[[], Sequence[VideoOutcome]],
    *,
    changed: str,
    shard_bytes: int,
    labels: Sequence[str] | None = None,
    known: Sequence[Failure] = (),
) -> tuple[VideoOutcome, ...]:
    """Do the work on a locked store, then pack the finished parts into it; return every outcome.

    The ledger has this run's failures and those earlier ones that this run did not look at. A source that
    has changed is an outcome, and no line of the ledger: the store has it.

    Parameters
    ----------
    setup : StoreSetup
        The plan.
    work : callable
        Commits the parts of `setup.plan.todo` and returns an outcome of each that was tried.
    changed : str
        Detail of the failure of a source that has changed since it was stored.
    shard_bytes : int
        Beyond this size the store is a master file and shards.
    labels : sequence of str, optional
        Class names in their order; sorted labels of the videos without it.
    known : sequence of Failure
        Failures from before the run.

    Raises
    ------
    StoreBusyError
        Another run is writing this store.
    NoSpaceError
        The disk filled up while packing; finished videos stay as parts.
    """
    parts = PartsFolder(setup.store)
    with parts.lock():
        parts.remove_dead_temporaries()
        try:
            outcomes = work()
        finally:
            # Ended workers leave temporaries; a run that is repeated would sweep them too.
            parts.remove_dead_temporaries()
        now = [*known, *(outcome.failure for outcome in outcomes if outcome.failure is not None)]
        looked_at = {str(source.path) for source in setup.plan.todo} | {failure.source for failure in known}
        earlier = [failure for failure in setup.found.failures if failure.source not in looked_at]
        finalize(
            setup.store,
            options=setup.options,
            labels=labels,
            failures=[*earlier, *now],
            shard_bytes=shard_bytes,
            replace=setup.plan.replaced,
        )
    left_alone = [failed_video(source, "source_changed", changed) for source in setup.plan.changed]
    return (*left_alone, *outcomes)
