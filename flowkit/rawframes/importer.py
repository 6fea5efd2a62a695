"""Import of folders and zips of raw frames into a store; their JPEGs are kept byte for byte."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from flowkit.errors import InputError
from flowkit.executor import Executor
from flowkit.extraction.lists import ListEntry
from flowkit.extraction.plan import check_options, make_plan
from flowkit.extraction.sources import VideoSource, check_ids, sources_of_list
from flowkit.extraction.store_run import OnOutcome, StoreSetup, VideoOutcome, failed_video, fill_store
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.rawframes.folders import Folders, Pairing, find_folders, readings
from flowkit.rawframes.frame_files import ZIP_SUFFIX, is_zip
from flowkit.rawframes.import_worker import IMPORTED, ImportTask, import_clip
from flowkit.rawframes.layouts import IMPORT_LAYOUTS, Layout
from flowkit.store.codecs import PLANE_CODEC
from flowkit.store.inventory import inventory
from flowkit.store.record import Failure
from flowkit.store.schema import DEFAULT_SHARD_BYTES, FieldOptions, StoreOptions
from flowkit.typing import FrameCodec
from flowkit.validate import check_at_least, check_choice, check_range, check_that

REASONS: Final[Reasons] = ((OSError, "unopenable"),)
"""Errors that fail a clip, beside those of every task."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """Every choice of an import.

    Parameters
    ----------
    layout : {"tsn", "denseflow", "mmaction2"}
        Layout of the folders.
    templates : tuple of str
        Other file names, `KIND=NAME`; see `make_layout`.
    first_index : int, optional
        Number of the first frame instead of the layout's.
    step : int
        Frames between the two of a pair, >= 1.
    bound_px : float
        Half the range that the flow images were quantised to, px; no file records it.
    fps : float
        Frames per second, for the times, > 0; no file records that either.
    frame_codec : {"jpeg", "none"}
        Import frames, or flow alone.
    pairing : {"first", "second"}
        The frame of its pair that has the number of a flow image: the first, or, in folders of TSN's
        own extractor, the second, at step 1 only.
    jobs : int
        Worker processes, >= 1.
    shard_bytes : int
        Beyond this size the store is a master file and shards.
    update : bool
        Redo folders that have changed since.
    """

    layout: str = "tsn"
    templates: tuple[str, ...] = ()
    first_index: int | None = None
    step: int = 1
    bound_px: float = 20.0
    fps: float = 25.0
    frame_codec: FrameCodec = "jpeg"
    pairing: Pairing = "first"
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    update: bool = False

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, IMPORT_LAYOUTS)
        paired = self.pairing == "first" or (self.pairing, self.step) == ("second", 1)
        check_that("pairing", self.pairing, paired, "first, or second at step 1")
        check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        check_at_least("jobs", self.jobs, 1)
        check_at_least("shard_bytes", self.shard_bytes, 1 << 20)
        # These check the rest.
        self.layouts()
        self.options()

    def layouts(self) -> tuple[Layout, ...]:
        """Return the variants of the layout that a folder may have."""
        return readings(self.layout, templates=self.templates, first_index=self.first_index, step=self.step)

    def options(self) -> StoreOptions:
        """Return the options of the store: all that is unknown of such folders is named imported."""
        field = FieldOptions(tvl1_preset=IMPORTED, tvl1_params="{}")
        return StoreOptions(
            fields=(field,),
            step=self.step,
            flow_codec=PLANE_CODEC,
            bound_px=self.bound_px,
            frame_codec=self.frame_codec,
            # OpenCV's default, for frames that are no JPEG; the bytes of the others are kept.
            jpeg_quality=95,
            resize=json.dumps({"mode": IMPORTED}),
            sampling=json.dumps({"assumed_fps": self.fps, "pairing": self.pairing}),
            # All of these tools compute flow with OpenCV.
            engine_family="opencv",
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportSetup(StoreSetup):
    """An import ready to run."""

    config: ImportConfig
    failures: tuple[Failure, ...]
    """Folders that look like clips and are none."""
    ignored: tuple[str, ...] = ()
    """A line for each folder or archive that was passed over."""


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
    """Bring folders and zips of images into a store; a repeated call does only what is missing.

    JPEGs are stored byte for byte; images of other kinds are encoded, and each clip's record says so.

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
    found_folders = _find(folder, config, entries)
    sources, failures = found_folders.sources, found_folders.failures
    if not sources and not failures:
        names = ", ".join(config.layouts()[0].file_name(kind, 0) for kind in ("img", "x", "y"))
        raise InputError(f"no clip of layout {config.layout} below {folder}: looked for folders with {names}")
    options, found = config.options(), inventory(store)
    check_options(options, found.options, store)
    return ImportSetup(
        store=store,
        config=config,
        options=options,
        plan=make_plan(sources, found, update=config.update),
        failures=failures,
        ignored=found_folders.ignored,
        found=found,
    )


def _find(folder: Path, config: ImportConfig, entries: Iterable[ListEntry] | None) -> Folders:
    if entries is None:
        return find_folders(folder, config.layouts())
    listed = sources_of_list([_below(entry, folder) for entry in entries], root=folder)
    return Folders(sources=tuple(check_ids([_zipped(source) for source in listed])), failures=())


def _zipped(source: VideoSource) -> VideoSource:
    """Return a listed clip with the path of its zip, where that is what there is of it."""
    zipped = source.path.with_name(source.path.name + ZIP_SUFFIX)
    if is_zip(source.path.name) and source.video_id.endswith(source.path.suffix):
        return dataclasses.replace(source, video_id=source.video_id[: -len(source.path.suffix)])
    if not source.path.exists() and zipped.is_file():
        return dataclasses.replace(source, path=zipped)
    return source


def _below(entry: ListEntry, folder: Path) -> ListEntry:
    """Return an entry whose path counts from `folder`: TSN's lists have the folder in front."""
    path = Path(entry.path)
    inside = path.is_relative_to(folder) and not (folder / path).exists()
    return dataclasses.replace(entry, path=str(path.relative_to(folder))) if inside else entry


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
        A clip's id is a folder of another's in the store.
    StoreBusyError
        Another run is writing this store.
    NoSpaceError
        The disk filled up while packing; finished clips stay as parts.
    KeyboardInterrupt
        Workers are ended first; finished clips stay as parts, a repeated run continues.
    """
    outcomes = fill_store(
        setup,
        lambda on_outcome: _import_all(setup, on_outcome, on_progress, executor),
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
        )
        for source in setup.plan.todo
    ]
    return run_tasks(
        TaskKind(work=import_clip, fail=_failed, reasons=REASONS),
        tasks,
        jobs=config.jobs,
        executor=executor,
        on_outcome=on_outcome,
        on_progress=on_progress,
        failed=len(setup.plan.changed),
    )


def _failed(task: ImportTask, reason: str, detail: str) -> VideoOutcome:
    return failed_video(task.source, reason, detail)
