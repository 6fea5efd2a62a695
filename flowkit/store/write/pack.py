"""Pack parts into a store: one file up to the size of a shard, a master with shards beyond that.

`pack_plan` decides the files; this module carries the plan out. Every file is written under a
temporary name and renamed; the files that it replaces are removed only after that. So a kill at any
moment leaves each committed video in some valid file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path

from flowkit import atomic
from flowkit.errors import StoreOptionsError
from flowkit.store.inventory import Files, Inventory, read_part, survey, take_inventory
from flowkit.store.parts_folder import PartsFolder, parts_path
from flowkit.store.record import Failure, VideoRecord, check_id_set
from flowkit.store.schema import DEFAULT_SHARD_BYTES, StoreOptions
from flowkit.store.write.pack_plan import Holdings, PackPlan, PackRules, PlannedFile, plan_pack
from flowkit.store.write.store_files import (
    Lists,
    link_or_copy,
    write_container,
    write_ledger,
    write_master,
)


def finalize(
    store_path: Path | str,
    *,
    options: StoreOptions,
    labels: Sequence[str] | None = None,
    failures: Sequence[Failure] = (),
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    replace: Set[str] = frozenset(),
    drop: Set[str] = frozenset(),
) -> bool:
    """Bring all committed parts into the store and remove them.

    Parameters
    ----------
    store_path
        The store's file; `<file>.parts` has its parts, `<file>.shards` its shards if any.
    options
        Options of the store, which every part must have.
    labels
        Class names in order. Without them, those of the store and of its videos: sorted, or
        appended where the store's own are in another order.
    failures
        The store's ledger from now on; also written to `<file>.failures.jsonl`.
    shard_bytes
        The size beyond which a store is split; existing shards stay as they are.
    replace
        Ids whose part, where there is one, replaces the stored video.
    drop
        Ids to leave out of the store.

    Returns
    -------
    bool
        True if anything was written; nothing is where nothing is new.

    Raises
    ------
    StoreOptionsError
        A part or the store was made with other options.
    InputError
        One id is a folder of another.
    NoSpaceError
        The disk is full; committed files stay.
    """
    store_path = Path(store_path)
    files = survey(store_path)
    inventory = take_inventory(files)
    if inventory.options is not None and (differences := inventory.options.differences(options)):
        raise StoreOptionsError(f"{store_path} was made with other options: {'; '.join(differences)}")
    held, rules = holdings(files, inventory), PackRules(shard_bytes=shard_bytes, replace=replace, drop=drop)
    records = _records(inventory, held, rules)
    lists = Lists(options=options, labels=_labels(labels, inventory, records), failures=tuple(failures))
    lists_changed = (lists.labels, lists.failures) != (inventory.labels, inventory.failures)
    plan = plan_pack(held, rules, lists_changed=lists_changed)
    check_id_set({video_id: str(path) for video_id, path in plan.paths.items()})
    if plan.changed:
        carry_out(plan, files, records, lists)
    write_ledger(store_path, lists.failures)
    _clean_up(plan, PartsFolder(store_path))
    return plan.changed


def holdings(files: Files, inventory: Inventory) -> Holdings:
    """Return the input of a plan: files, videos, sizes."""
    in_parts = parts_path(files.store_path)
    parts = {k: path for k, path in inventory.paths.items() if path.parent == in_parts}
    paths = {*parts.values(), *inventory.repeated.values(), *([files.store_path] if files.exists else [])}
    return Holdings(
        files=files,
        stored={k: path for k, path in inventory.paths.items() if k not in parts},
        parts=parts,
        repeated=inventory.repeated,
        superseded=inventory.superseded,
        sizes={path: os.path.getsize(path) for path in paths},
    )


def carry_out(
    plan: PackPlan,
    files: Files,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    *,
    relabelled: Collection[str] = (),
) -> None:
    """Write and commit the files of a plan in its order, the master last.

    Parameters
    ----------
    records
        Records of all videos of the plan, by sorted id.
    relabelled
        Videos whose groups hold other records; these overwrite them.
    """
    files.store_path.parent.mkdir(parents=True, exist_ok=True)
    if plan.sharded:
        files.shards.mkdir(exist_ok=True)
        atomic.sync(files.store_path.parent)
    for planned in plan.files:
        path = files.shard_path(planned.number) if plan.sharded else files.store_path
        if planned.action == "linked":
            link_or_copy(files.store_path, path)
        elif planned.action != "kept":
            _write(path, planned, records, lists, relabelled)
        if planned.action == "packed":
            for part in planned.sources:
                part.unlink(missing_ok=True)
    if plan.sharded:
        write_master(files, records, plan.shards, lists)


def _write(
    path: Path,
    planned: PlannedFile,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    relabelled: Collection[str],
) -> None:
    own = {video_id: records[video_id] for video_id in planned.video_ids}
    changed = [video_id for video_id in own if video_id in relabelled]
    write_container(path, planned.sources, own, lists, number=planned.number, relabelled=changed)


def _records(inventory: Inventory, held: Holdings, rules: PackRules) -> dict[str, VideoRecord]:
    """Return the records that the store will hold, by sorted id."""
    records = {k: record for k, record in inventory.records.items() if k not in rules.drop}
    records |= {k: read_part(held.repeated[k])[0] for k in rules.replaced(held)}
    return dict(sorted(records.items()))


def _clean_up(plan: PackPlan, parts: PartsFolder) -> None:
    """Remove the files that the committed ones made superfluous."""
    for path in plan.removed:
        path.unlink(missing_ok=True)
    parts.remove_segments(plan.paths)
    with contextlib.suppress(OSError):  # not empty: the lock, or parts that cannot be read
        parts.path.rmdir()


def _labels(
    given: Sequence[str] | None, inventory: Inventory, records: Mapping[str, VideoRecord]
) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    seen = {record.label for record in records.values() if record.label}
    kept = inventory.labels
    if list(kept) == sorted(kept):
        return tuple(sorted(seen | set(kept)))
    return (*kept, *sorted(seen - set(kept)))
