"""Import of raw frames and flow, in folders, zips and arrays, into a store; JPEGs are kept byte for byte."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from flowkit.errors import InputError
from flowkit.executor import Executor
from flowkit.extraction.lists import ListEntry
from flowkit.extraction.plan import check_options, make_plan
from flowkit.extraction.store_run import OnOutcome, StoreSetup, VideoOutcome, failed_video, fill_store
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.rawframes.array_clips import EXPECTED
from flowkit.rawframes.import_config import ImportConfig, resumed_config
from flowkit.rawframes.import_worker import UNKNOWN_METHOD, ImportTask, import_clip
from flowkit.rawframes.layouts import LAYOUTS
from flowkit.rawframes.layouts.layout import Kind
from flowkit.rawframes.listed import WHOLE, Wanted, below, find_clips
from flowkit.rawframes.steps import find_steps, one_step, with_backward
from flowkit.store.inventory import inventory
from flowkit.store.record import Failure

REASONS: Final[Reasons] = ((OSError, "unopenable"),)
"""Errors that fail a clip, beside those of every task."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportSetup(StoreSetup):
    """An import ready to run."""

    config: ImportConfig
    failures: tuple[Failure, ...]
    """Folders that look like clips and are none."""
    ignored: tuple[str, ...] = ()
    """A line for each folder or archive that was passed over."""
    wanted: Mapping[str, Wanted] = dataclasses.field(default_factory=dict)
    """What a list says of the clips' frames, by id."""
    trees: Mapping[str, Mapping[Kind, Path]] = dataclasses.field(default_factory=dict)
    """Of a layout in trees, the folder of each kind of files, by id."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """The outcome of a run.

    `outcomes` has this run's clips; `failures` those of them that failed and the folders that are no
    clips; `not_tried` counts clips left when a full disk ended the run.
    """

    outcomes: tuple[VideoOutcome, ...]
    failures: tuple[Failure, ...]
    already_stored: int
    not_tried: int

    @property
    def stored(self) -> int:
        """Number of clips that this run stored."""
        return sum(outcome.status == "stored" for outcome in self.outcomes)


def import_rawframes(
    folder: Path | str,
    store: Path | str,
    *,
    config: ImportConfig | None = None,
    entries: Iterable[ListEntry] | None = None,
    labels: Sequence[str] | None = None,
    on_progress: Callable[[Progress[VideoOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ImportReport:
    """Bring folders and zips of images and flow into a store; a repeated call does only what is missing.

    JPEGs are stored byte for byte; images of other kinds are encoded, and each clip's record says so. Flow as
    numbers (.flo, KITTI's PNG, .npy, .npz) is encoded by the store's codec.

    Parameters
    ----------
    folder : Path or str
        Searched recursively.
    store : Path or str
        The store's file; may exist.
    config : ImportConfig, optional
        Every choice; its defaults (TSN's layout) without it.
    entries : iterable of ListEntry, optional
        The clips that are wanted and their labels; paths count from `folder`, or begin with it.
        Without it all that is found, labelled by the folder above each.
    labels : sequence of str, optional
        Class names in their order; sorted labels of the clips without it.
    on_progress : callable
        Called with a `Progress` when a clip ends and about five times a second between.
    executor : Executor, optional
        Runs the clips; `config.jobs` processes of this machine without it.

    Raises
    ------
    InputError
        The folder does not exist or holds no clip; two clips have one id, or one's is a folder of another's.
    StoreError
        The store was made with other options, cannot be read or written, or is being written.
    """
    setup = prepare(folder, store, config or ImportConfig(), entries=entries)
    return run(setup, labels=labels, on_progress=on_progress, executor=executor)


def prepare(
    folder: Path | str,
    store: Path | str,
    config: ImportConfig,
    *,
    entries: Iterable[ListEntry] | None = None,
) -> ImportSetup:
    """Find the clips and compare them with the store; writes nothing.

    Parameters
    ----------
    folder : Path or str
        Searched recursively.
    store : Path or str
        The store's file; may exist.
    config : ImportConfig
        Every choice.
    entries : iterable of ListEntry, optional
        The wanted clips and their labels, from `parse_list`; paths count from `folder`, or
        have it in front. Without it all that is found, labelled by the folder above each.

    Raises
    ------
    InputError
        The folder does not exist or holds no clip; two clips have one id.
    StoreError
        The store exists and was made with other options, or cannot be read.
    """
    folder, store = Path(folder), Path(store)
    if not folder.is_dir():
        word = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{word}: {folder}; name the folder that the clips' folders or zips are in")
    listed = None if entries is None else list(entries)
    config = with_named_steps(folder, config, listed)
    clips = find_clips(folder, config.layouts(), listed, kinds=config.kinds(), fps=config.fps)
    sources, failures = clips.folders.sources, clips.folders.failures
    if not sources and not failures:
        names = ", ".join(config.layouts()[0].file_name(kind, 0) for kind in config.kinds()) or EXPECTED
        raise InputError(f"no clip of layout {config.layout} below {folder}: looked for folders with {names}")
    found = inventory(store)
    config = resumed_config(config, found.options)
    options = config.options()
    check_options(options, found.options, store)
    return ImportSetup(
        store=store,
        config=config,
        options=options,
        plan=make_plan(sources, found, update=config.update),
        failures=failures,
        ignored=clips.folders.ignored,
        found=found,
        wanted=clips.wanted,
        trees=clips.folders.trees,
    )


def with_named_steps(
    folder: Path, config: ImportConfig, entries: Sequence[ListEntry] | None = None
) -> ImportConfig:
    """Return a config whose step and direction are those that the file names say, where they were left open.

    Raises
    ------
    InputError
        The names have several steps, or only some folders have backward flow.
    """
    if config.step is not None and config.backward is not None:
        return config
    named = {text.partition("=")[0] for text in config.templates}
    listed = None if entries is None else [folder / below(entry, folder).path for entry in entries]
    found = [] if named & {"x", "bx"} else find_steps(folder, LAYOUTS[config.layout], listed)
    step = one_step(found) if config.step is None else config.step
    backward = with_backward(found, step) if config.backward is None else config.backward
    return dataclasses.replace(config, step=step, backward=backward)


def run(
    setup: ImportSetup,
    *,
    labels: Sequence[str] | None = None,
    on_progress: Callable[[Progress[VideoOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ImportReport:
    """Carry out a setup, then pack the finished clips into the store.

    Parameters
    ----------
    setup : ImportSetup
        From `prepare`.
    labels : sequence of str, optional
        Class names in their order; sorted labels of the clips without it.
    on_progress : callable
        Called when a clip ends and about five times a second between.
    executor : Executor, optional
        Runs the clips; `config.jobs` processes of this machine without it.

    Raises
    ------
    InputError
        A clip's id is a folder of another's in the store, or the log cannot be written.
    StoreBusyError
        Another run is writing this store.
    NoSpaceError
        The disk filled up while packing; finished clips stay as parts.
    KeyboardInterrupt
        Workers are ended first; finished clips stay as parts, a repeated run continues.
    """
    outcomes = fill_store(
        setup,
        lambda on_outcome, on_tick: _import_all(setup, on_outcome, on_tick, executor),
        command="import",
        on_progress=on_progress,
        log_file=setup.config.log_file,
        changed="the folder has changed since it was stored; --update imports it again, the store keeps the "
        "old one",
        shard_bytes=setup.config.shard_bytes,
        labels=labels,
        known=setup.failures,
    )
    now = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    return ImportReport(
        outcomes=outcomes,
        failures=(*setup.failures, *now),
        already_stored=len(setup.plan.stored),
        not_tried=len(setup.plan.todo) + len(setup.plan.changed) - len(outcomes),
    )


def _import_all(
    setup: ImportSetup,
    on_outcome: OnOutcome,
    on_progress: Callable[[Progress[VideoOutcome]], None],
    executor: Executor | None,
) -> list[VideoOutcome]:
    config = setup.config
    tasks = [
        ImportTask(
            source=source,
            store=setup.store,
            options=setup.options,
            layouts=config.layouts(),
            fps=config.fps,
            pairing=config.pairing,
            unknown=config.unknown,
            method=config.method_name or UNKNOWN_METHOD,
            wanted=setup.wanted.get(source.video_id, WHOLE),
            trees=setup.trees.get(source.video_id, {}),
        )
        for source in setup.plan.todo
    ]
    return run_tasks(
        TaskKind(
            work=import_clip, fail=_failed, reasons=REASONS, name=operator.attrgetter("source.video_id")
        ),
        tasks,
        jobs=config.jobs,
        executor=executor,
        on_outcome=on_outcome,
        on_progress=on_progress,
        failed=len(setup.plan.changed),
    )


def _failed(task: ImportTask, reason: str, detail: str) -> VideoOutcome:
    return failed_video(task.source, reason, detail)
