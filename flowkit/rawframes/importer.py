"""Import of folders and zips of raw frames into a store; their JPEGs are kept byte for byte."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from flowkit.errors import InputError
from flowkit.executor import Executor
from flowkit.extraction.lists import ListEntry
from flowkit.extraction.plan import check_options, make_plan
from flowkit.extraction.store_run import OnOutcome, StoreSetup, VideoOutcome, failed_video, fill_store
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.rawframes.import_worker import IMPORTED, ImportTask, import_clip
from flowkit.rawframes.inspection import Pairing
from flowkit.rawframes.layouts import IMPORT_LAYOUTS, LAYOUTS, readings
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD, BACKWARD_KINDS, Kind, Layout
from flowkit.rawframes.listed import WHOLE, Wanted, below, find_clips, is_clip
from flowkit.rawframes.steps import find_steps, one_step, with_backward
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
    layout : str
        Layout of the folders, one of `flowkit.rawframes.layouts.IMPORT_LAYOUTS`.
    templates : tuple of str
        Other file names, `KIND=NAME`; see `make_layout`.
    first_index : int, optional
        Number of the first frame instead of the layout's; flow moves with it.
    first_flow_index : int, optional
        Number of the first flow field, where it is not that which goes with the frames.
    step : int, optional
        Frames between the two of a pair, >= 1; without it as the file names say, or 1.
    backward : bool, optional
        Import backward flow too, as the field `flow_backward`; without it where the file names have it.
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
    first_flow_index: int | None = None
    step: int | None = None
    backward: bool | None = None
    bound_px: float = 20.0
    fps: float = 25.0
    frame_codec: FrameCodec = "jpeg"
    pairing: Pairing = "first"
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))
    shard_bytes: int = DEFAULT_SHARD_BYTES
    update: bool = False

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, IMPORT_LAYOUTS)
        paired = self.pairing == "first" or (self.pairing == "second" and self.step in (1, None))
        check_that("pairing", self.pairing, paired, "first, or second at step 1")
        check_range("fps", self.fps, 0, 100_000, bounds="()", unit="frames per second")
        check_at_least("jobs", self.jobs, 1)
        check_at_least("shard_bytes", self.shard_bytes, 1 << 20)
        if self.step is not None:
            check_at_least("step", self.step, 1)
        # These check the rest.
        layouts = self.layouts()
        self.options()
        fits = not self.backward or BACKWARD_KINDS[0] in layouts[0].templates
        check_that("backward", self.backward, fits, f"left out: layout {self.layout} has no names for it")

    def layouts(self) -> tuple[Layout, ...]:
        """Return the variants of the layout that a folder may have."""
        return readings(
            self.layout,
            templates=self.templates,
            first_index=self.first_index,
            first_flow_index=self.first_flow_index,
            step=self.step or 1,
        )

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of files that are wanted."""
        left_out = (() if self.backward else BACKWARD_KINDS) + (
            () if self.frame_codec == "jpeg" else ("img",)
        )
        return tuple(kind for kind in self.layouts()[0].templates if kind not in left_out)

    def is_clip(self, folder: Path, path: str) -> bool:
        """Return whether a clip that a list names exists."""
        return is_clip(folder, self.layouts()[0], path)

    def options(self) -> StoreOptions:
        """Return the options of the store: all that is unknown of such folders is named imported."""
        names = ("flow", BACKWARD_FIELD) if self.backward else ("flow",)
        return StoreOptions(
            fields=tuple(FieldOptions(name=name, tvl1_preset=IMPORTED, tvl1_params="{}") for name in names),
            step=self.step or 1,
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
    listed = None if entries is None else list(entries)
    config = with_named_steps(folder, config, listed)
    clips = find_clips(folder, config.layouts(), listed, kinds=config.kinds(), fps=config.fps)
    sources, failures = clips.folders.sources, clips.folders.failures
    if not sources and not failures:
        names = ", ".join(config.layouts()[0].file_name(kind, 0) for kind in config.kinds())
        raise InputError(f"no clip of layout {config.layout} below {folder}: looked for folders with {names}")
    options, found = config.options(), inventory(store)
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
            wanted=setup.wanted.get(source.video_id, WHOLE),
            trees=setup.trees.get(source.video_id, {}),
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
