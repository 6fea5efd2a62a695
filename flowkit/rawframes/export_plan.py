"""What an export is asked to do, held against the store and against what is there already."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flowkit.errors import InputError, InvalidParameterError
from flowkit.quantize import check_bound
from flowkit.rawframes import shards, split_lists
from flowkit.rawframes.destination import Destination
from flowkit.rawframes.layouts import make_layout
from flowkit.rawframes.pieces import Recipe
from flowkit.rawframes.unit import Member, Unit, UnitOutcome, failed_unit, from_marker
from flowkit.store.reader import Store, open_store
from flowkit.store.schema import field_names

DEFAULT_BOUND_PX = 20.0


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
        Number of the first frame in place of the layout's.
    content : {"both", "frames", "flow"}
        What is written.
    field : str
        Which flow field of the store.
    bound_px : float, optional
        Half the range of flow pictures, px. A store of such pictures has its own; others take 20.
    quality : int
        JPEG quality of flow pictures that are encoded here, 1 to 100.
    split : str, optional
        For webdataset: the split whose subsets get shards of their own.
    clips_per_shard : int
        For webdataset, >= 1.
    list_prefix : str, optional
        What stands before each id in the annotation lists; without it the destination for tsn, whose
        lists are read from any folder, and nothing for the others, whose readers have a root.
    jobs : int
        Worker processes, >= 1.
    """

    layout: str = "tsn"
    templates: tuple[str, ...] = ()
    first_index: int | None = None
    content: Literal["both", "frames", "flow"] = "both"
    field: str = "flow"
    bound_px: float | None = None
    quality: int = 95
    split: str | None = None
    clips_per_shard: int = shards.DEFAULT_CLIPS
    list_prefix: str | None = None
    jobs: int = dataclasses.field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.bound_px is not None:
            check_bound(self.bound_px)
        for name, ok, expected in (
            ("content", self.content in ("both", "frames", "flow"), "both, frames or flow"),
            ("quality", 1 <= self.quality <= 100, "in [1, 100]"),
            ("clips_per_shard", self.clips_per_shard >= 1, ">= 1"),
            ("jobs", self.jobs >= 1, ">= 1"),
            ("split", self.split is None or self.layout == "webdataset", "left out but for webdataset"),
        ):
            if not ok:
                raise InvalidParameterError(f"{name} must be {expected}, got {getattr(self, name)!r}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportSetup:
    """An export ready to run: what is to be done, what is there already, what cannot be."""

    store: Path
    destination: Destination
    config: ExportConfig
    recipe: Recipe
    options: Mapping[str, Any]
    members: Mapping[str, Member]
    classes: tuple[str, ...]
    splits: tuple[split_lists.Split, ...]
    todo: tuple[Unit, ...]
    there: tuple[UnitOutcome, ...]
    refused: tuple[UnitOutcome, ...]


def prepare(store_path: Path | str, destination: Path | str, config: ExportConfig) -> ExportSetup:
    """Compare a store with what an earlier run has exported; writes nothing.

    Raises
    ------
    InvalidParameterError
        A choice does not go with the store.
    StoreOptionsError
        The destination was exported with other options.
    StoreError
        The store cannot be read.
    """
    store_path, place = Path(store_path), Destination(Path(destination))
    with open_store(store_path) as store:
        recipe = _recipe(store, config)
        members = _members(store)
        classes, options = store.labels, _options(store, config, recipe)
    place.check_options(options)
    splits = tuple(split_lists.read_splits(store_path))
    groups = _groups(config, splits, members)
    units = [
        Unit(
            name=name,
            members={video_id: members[video_id] for video_id in ids},
            store=store_path,
            destination=place.path,
            recipe=recipe,
        )
        for name, ids in groups.items()
    ]
    return _sort_units(
        units,
        ExportSetup(
            store=store_path,
            destination=place,
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
    if config.field not in field_names(options):
        raise InvalidParameterError(
            f"Invalid field ({config.field!r}). {store.path} has {field_names(options)}"
        )
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
        step=options.step,
        backward=config.field == "flow_backward",
    )
    return Recipe(
        layout=layout,
        frames=config.content != "flow",
        flow=config.content != "frames",
        field=config.field,
        bound_px=bound_px,
        quality=config.quality,
    )


def _members(store: Store) -> dict[str, Member]:
    numbers = {name: number for number, name in enumerate(store.labels)}
    return {
        video_id: Member(record=clip.record, label=numbers.get(clip.record.label))
        for video_id, clip in store.items()
    }


def _options(store: Store, config: ExportConfig, recipe: Recipe) -> dict[str, Any]:
    """Return what two exports into one folder must have in common."""
    layout = recipe.layout
    own = {
        "layout": layout.name,
        "templates": {kind: template.pattern for kind, template in layout.templates.items()},
        "first_index": layout.first_index,
        "content": config.content,
        "field": recipe.field,
        "bound": recipe.bound_px,
        "quality": recipe.quality,
    }
    if layout.form == "tar":
        own |= {"split": config.split, "clips_per_shard": config.clips_per_shard}
    return own | {f"store's {name}": value for name, value in store.options.to_attrs().items()}


def _groups(
    config: ExportConfig, splits: Sequence[split_lists.Split], members: Mapping[str, Member]
) -> dict[str, tuple[str, ...]]:
    """Return the ids of each unit, by the unit's path."""
    if config.layout != "webdataset":
        return {video_id: (video_id,) for video_id in members}
    subsets: Mapping[str, tuple[str, ...]] = {"clips": tuple(members)}
    if config.split is not None:
        by_name = {split.name: split for split in splits}
        if config.split not in by_name:
            raise InvalidParameterError(f"Invalid split ({config.split!r}). The store has {list(by_name)}")
        subsets = by_name[config.split].subsets
    groups: dict[str, tuple[str, ...]] = {}
    for subset, ids in subsets.items():
        there = [video_id for video_id in ids if video_id in members]
        groups |= shards.plan_shards(split_lists.file_word(subset), there, config.clips_per_shard)
    return groups


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
