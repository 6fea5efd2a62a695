"""Export of a store to folders of raw frames or tar shards, with annotation lists.

`prepare` checks the choices against the store and against an earlier export, `run` writes what is missing.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from flowkit.errors import FlowkitError, InputError, InvalidParameterError, StoreError
from flowkit.executor import Executor
from flowkit.jobs import Progress, Reasons, TaskKind, run_tasks
from flowkit.quantize import check_bound
from flowkit.rawframes.clip_files import Recipe
from flowkit.rawframes.destination import ANNOTATIONS, Destination
from flowkit.rawframes.export_plan import folder_groups, shard_groups
from flowkit.rawframes.export_worker import ExportOutcome, Member, Unit, failed_unit, from_marker, write_unit
from flowkit.rawframes.layouts import LAYOUTS, make_layout
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD
from flowkit.rawframes.lists import ListedClip, ListSplit, Omissions, list_files, read_splits, spelled_out
from flowkit.rawframes.tar import DEFAULT_CLIPS, shard_indexes
from flowkit.rawframes.trees import wanted_folders
from flowkit.remote import Location, locate
from flowkit.store.read.store import Store, open_store
from flowkit.store.schema import field_names
from flowkit.validate import check_at_least, check_choice, check_range, check_that

DEFAULT_BOUND_PX = 20.0
BOTH = "both"
"""Instead of a field's name: forward and backward flow in one folder."""

REASONS: Final[Reasons] = (
    (InputError, "refused"),
    (StoreError, "store_error"),
    (FlowkitError, "write_error"),
    (OSError, "write_error"),
)
"""Errors that fail a unit, beside those of every task."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Every choice of an export.

    Parameters
    ----------
    layout : str
        One of `flowkit.rawframes.layouts.LAYOUTS`.
    templates : tuple of str
        Other file names, `KIND=NAME`; see `make_layout`.
    first_index : int, optional
        Number of the first frame instead of the layout's; flow moves with it.
    first_flow_index : int, optional
        Number of the first flow field, where it is not that which goes with the frames.
    content : {"both", "frames", "flow"}
        Frames, flow or both.
    field : str
        Name of the store's flow field; "both" for `flow` and `flow_backward`, as denseflow names them.
    bound_px : float, optional
        Half the range of flow images, px. A store of such images has its own; others take 20.
    quality : int
        JPEG quality of flow images that are encoded here, 1 to 100.
    split : str, optional
        For webdataset: the split whose subsets get shards of their own.
    clips_per_shard : int
        For webdataset, >= 1.
    list_prefix : str, optional
        Prefix of each id in the annotation lists; without it the destination for tsn, whose
        lists are read from any folder, and nothing for the others, whose readers have a root.
    safe_names : bool
        Spell spaces of the ids as %20 (and % as %25) in folders and lists: readers of the lists divide lines
        at spaces. Not for webdataset, which has no lists.
    jobs : int
        Worker processes, >= 1.
    """

    layout: str = "tsn"
    templates: tuple[str, ...] = ()
    first_index: int | None = None
    first_flow_index: int | None = None
    content: Literal["both", "frames", "flow"] = "both"
    field: str = "flow"
    bound_px: float | None = None
    quality: int = 95
    split: str | None = None
    clips_per_shard: int = DEFAULT_CLIPS
    list_prefix: str | None = None
    safe_names: bool = False
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.bound_px is not None:
            check_bound(self.bound_px)
        check_choice("content", self.content, ("both", "frames", "flow"))
        check_range("quality", self.quality, 1, 100)
        check_at_least("clips_per_shard", self.clips_per_shard, 1)
        check_at_least("jobs", self.jobs, 1)
        check_choice("layout", self.layout, LAYOUTS)
        in_shards = LAYOUTS[self.layout].in_shards
        check_that("split", self.split, self.split is None or in_shards, "left out but for webdataset")
        fits = not self.safe_names or not in_shards
        check_that("safe_names", self.safe_names, fits, "left out for webdataset")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportSetup:
    """An export ready to run: units to write, units of an earlier run, units that cannot be written."""

    store: Location
    destination: Destination
    config: ExportConfig
    recipe: Recipe
    options: Mapping[str, object]
    members: Mapping[str, Member]
    classes: tuple[str, ...]
    splits: tuple[ListSplit, ...]
    todo: tuple[Unit, ...]
    there: tuple[ExportOutcome, ...]
    refused: tuple[ExportOutcome, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """The outcome of a run; `outcomes` has every unit, those of earlier runs too.

    `not_tried` counts units left when a full disk ended the run; `notes` lists what the annotation
    lists leave out, `unlisted` the clips among them whose path has spaces.
    """

    outcomes: tuple[ExportOutcome, ...]
    not_tried: int
    notes: tuple[str, ...]
    unlisted: int = 0

    @property
    def failures(self) -> tuple[ExportOutcome, ...]:
        """The units that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def clipped_fraction(self) -> float:
        """Fraction of the flow components that were clipped, in [0, 1]."""
        values = sum(outcome.values for outcome in self.outcomes)
        return sum(outcome.clipped for outcome in self.outcomes) / max(1, values)


def export(
    store: Location | str,
    dest: Path | str,
    *,
    config: ExportConfig | None = None,
    on_progress: Callable[[Progress[ExportOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ExportReport:
    """Write the clips of a store as other projects lay them out; a repeated call does only what is missing.

    Parameters
    ----------
    store : Path or str
        The store's file, or its address.
    dest : Path or str
        The folder to fill; may exist.
    config : ExportConfig, optional
        Every choice; its defaults (TSN's layout) without it.
    on_progress : callable
        Called with a `Progress` when a clip or shard ends and about five times a second between.
    executor : Executor, optional
        Runs the clips; `config.jobs` processes of this machine without it.

    Raises
    ------
    InvalidParameterError
        A choice does not fit the store.
    StoreOptionsError
        The destination was exported with other options.
    StoreError
        The store cannot be read, or another export is writing into the destination.
    """
    setup = prepare(store, dest, config or ExportConfig())
    return run(setup, on_progress=on_progress, executor=executor)


def prepare(store_path: Location | str, destination: Path | str, config: ExportConfig) -> ExportSetup:
    """Compare a store with an earlier export; writes nothing.

    Raises
    ------
    InvalidParameterError
        A choice does not fit the store.
    StoreOptionsError
        The destination was exported with other options.
    StoreError
        The store cannot be read.
    """
    store_path, folder = locate(store_path), Destination(Path(destination))
    with open_store(store_path) as store:
        recipe = _recipe(store, config)
        members = _members(store)
        classes, options = store.labels, _options(store, config, recipe)
    folder.check_options(options)
    splits = tuple(read_splits(store_path))
    if recipe.layout.in_shards:
        groups = shard_groups(tuple(members), splits, split=config.split, clips=config.clips_per_shard)
    else:
        groups = folder_groups(members, recipe, safe_names=config.safe_names)
    units = [
        Unit(
            name=name,
            members={video_id: members[video_id] for video_id in group.video_ids},
            store=store_path,
            destination=folder.path,
            recipe=recipe,
            kinds=group.kinds,
        )
        for name, group in groups.items()
    ]
    return _sort_units(
        units,
        ExportSetup(
            store=store_path,
            destination=folder,
            config=config,
            recipe=recipe,
            options=options,
            members=members,
            classes=classes,
            splits=splits,
            todo=(),
            there=(),
            refused=(),
        ),
    )


def _recipe(store: Store, config: ExportConfig) -> Recipe:
    options = store.options
    if config.content != "flow" and options.frame_codec == "none":
        raise InvalidParameterError(f"{store.path} keeps no frames; export its flow alone: --content flow")
    names = field_names(options)
    both = config.field == BOTH
    offered = (*names, BOTH) if BACKWARD_FIELD in names else names
    check_choice("field", config.field, offered, where=f"in {store.path}")
    bound_px = DEFAULT_BOUND_PX if config.bound_px is None else config.bound_px
    if options.codec.stores_planes:
        if config.bound_px not in (None, options.bound_px):
            raise InvalidParameterError(
                f"the flow of {store.path} is JPEG with bound {options.bound_px:g} px, which is copied as it "
                f"is; leave --bound {config.bound_px:g} out"
            )
        bound_px = options.bound_px
    layout = make_layout(
        config.layout,
        templates=config.templates,
        first_index=config.first_index,
        first_flow_index=config.first_flow_index,
        step=options.step,
        backward=config.field == BACKWARD_FIELD,
        both=both,
    )
    return Recipe(
        layout=layout,
        frames=config.content != "flow",
        flow=config.content != "frames",
        field="flow" if both else config.field,
        bound_px=bound_px,
        quality=config.quality,
    )


def _members(store: Store) -> dict[str, Member]:
    numbers = {name: number for number, name in enumerate(store.labels)}
    return {
        video_id: Member(record=clip.record, label=numbers.get(clip.record.label))
        for video_id, clip in store.items()
    }


def _options(store: Store, config: ExportConfig, recipe: Recipe) -> dict[str, object]:
    """Return the options that two exports into one folder must have in common."""
    layout = recipe.layout
    own = {
        "layout": layout.name,
        "templates": {kind: template.pattern for kind, template in layout.templates.items()},
        "first_index": layout.first_index,
        "content": config.content,
        "field": config.field,
        **({"flow_offset": layout.flow_offset} if config.first_flow_index is not None else {}),
        "bound": recipe.bound_px,
        "quality": recipe.quality,
    }
    if layout.in_shards:
        own |= {"split": config.split, "clips_per_shard": config.clips_per_shard}
    if config.safe_names:
        own["safe_names"] = True
    return own | {f"store's {name}": value for name, value in store.options.to_attrs().items()}


def _sort_units(units: Sequence[Unit], setup: ExportSetup) -> ExportSetup:
    todo, there, refused = [], [], []
    for unit in units:
        try:
            setup.destination.target(unit.name)
        except InputError as error:
            refused.append(failed_unit(unit, "refused", str(error)))
            continue
        marker = setup.destination.done(unit.name)
        if marker is not None and marker.made_of == unit.made_of():
            there.append(from_marker(unit, marker, "already_exported"))
        else:
            todo.append(unit)
    return dataclasses.replace(setup, todo=tuple(todo), there=tuple(there), refused=tuple(refused))


def run(
    setup: ExportSetup,
    *,
    on_progress: Callable[[Progress[ExportOutcome]], None] = lambda _: None,
    executor: Executor | None = None,
) -> ExportReport:
    """Carry out a setup, then write the annotation lists of all exported clips.

    Parameters
    ----------
    setup : ExportSetup
        From `prepare`.
    on_progress : callable
        Called when a unit ends and about five times a second between.
    executor : Executor, optional
        Runs the units; `config.jobs` processes of this machine without it.

    Raises
    ------
    StoreBusyError
        Another export is writing into the destination.
    KeyboardInterrupt
        Workers are ended first; finished units are whole, a repeated run continues.
    """
    destination = setup.destination
    with destination.lock():
        destination.check_options(setup.options)
        destination.write_options(setup.options)
        tried = run_tasks(
            TaskKind(work=write_unit, fail=failed_unit, reasons=REASONS),
            setup.todo,
            jobs=setup.config.jobs,
            executor=executor,
            on_progress=on_progress,
            failed=len(setup.refused),
        )
        outcomes = (*setup.there, *setup.refused, *tried)
        omissions = _write_lists(setup, outcomes)
    not_tried = len(setup.todo) - len(tried)
    return ExportReport(
        outcomes=outcomes, not_tried=not_tried, notes=omissions.notes, unlisted=omissions.spaced
    )


def _write_lists(setup: ExportSetup, outcomes: Sequence[ExportOutcome]) -> Omissions:
    """Write the lists, or the shards' indexes; return what they leave out."""
    whole = [outcome for outcome in outcomes if outcome.status != "failed"]
    if setup.recipe.layout.in_shards:
        # A reader of `<subset>-*.tar` must not find shards of an earlier division of the clips.
        planned = {unit.name for unit in setup.todo} | {outcome.name for outcome in whole}
        dropped = setup.destination.drop_others(planned)
        omissions = Omissions(notes=tuple(f"removed {name}, of an earlier export" for name in dropped))
        # webdataset 1 has no reader of an index, and a reader of all files in the folder takes it for data.
        shards = {outcome.name: (len(outcome.video_ids), outcome.bytes) for outcome in whole}
        texts = shard_indexes(shards) if setup.recipe.layout.form == "tar" else {}
        texts["classes.txt"] = "".join(f"{name}\n" for name in setup.classes)
    else:
        prefix = setup.config.list_prefix
        if prefix is None:
            prefix = str(setup.destination.path) if setup.config.layout == "tsn" else ""
        lists, omissions = list_files(setup.splits, _entries(setup, whole), setup.classes, prefix=prefix)
        texts = {f"{ANNOTATIONS}/{name}": text for name, text in lists.items()}
    for name, text in texts.items():
        setup.destination.write_own(name, text)
    return omissions


def _entries(setup: ExportSetup, whole: Sequence[ExportOutcome]) -> dict[str, ListedClip]:
    """Return the entries of the clips of which every folder is there, by id."""
    units = Counter(video_id for outcome in whole for video_id in outcome.video_ids)
    folders = wanted_folders(setup.recipe.layout, setup.recipe.kinds)
    complete = sorted(video_id for video_id, count in units.items() if count >= max(1, len(folders)))
    safe = setup.config.safe_names
    return {k: setup.members[k].entry(spelled_out(k) if safe else k) for k in complete}
