"""Make a new store from finished ones: merged, a subset, or with other labels.

Frames and flow are copied as they are stored, never decoded. The sources stay as they are, and the new
store is written as any other: under temporary names, with a rename as the last step. After a kill the same
call starts anew, or finds its store complete.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowkit.errors import InputError, StoreNotFoundError, StoreOptionsError
from flowkit.store.index import NO_SHARD
from flowkit.store.inventory import survey, take_inventory
from flowkit.store.record import Failure, VideoRecord, check_id_set
from flowkit.store.schema import DEFAULT_SHARD_BYTES, StoreOptions
from flowkit.store.tools.new_store import new_store, recipe
from flowkit.store.write.container import Lists
from flowkit.store.write.pack import carry_out, write_ledger
from flowkit.store.write.pack_plan import PackPlan, PlannedFile, divided, sources_of

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StoreContents:
    """The videos of a store, and their files."""

    options: StoreOptions
    labels: tuple[str, ...]
    """Class names in order."""
    failures: tuple[Failure, ...]
    records: Mapping[str, VideoRecord]
    """The record of each video, by id."""
    paths: Mapping[str, Path]
    """The file of each video."""
    relabelled: frozenset[str] = frozenset()
    """Videos whose record differs from the one in their file."""


def contents(store_path: Path | str) -> StoreContents:
    """Return the videos of a finished store.

    Raises
    ------
    StoreNotFoundError
        There is none.
    StoreFormatError, StoreCorruptError
        It cannot be read, or a shard is missing.
    """
    path = Path(store_path)
    if not path.exists():
        raise StoreNotFoundError(f"there is no store at {path}")
    inventory = take_inventory(survey(path))
    if inventory.options is None:
        raise StoreNotFoundError(f"the store at {path} holds nothing")
    return StoreContents(
        options=inventory.options,
        labels=inventory.labels,
        failures=inventory.failures,
        records=inventory.records,
        paths=inventory.paths,
    )


def merge(
    stores: Sequence[Path | str], out: Path | str, *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> StoreContents:
    """Write the videos of several stores of equal options as one; return its contents.

    Class names keep the first store's order, new ones follow (or all are sorted, where all were).
    A video that several stores have from the same source is taken from the first.

    Parameters
    ----------
    stores
        Paths of the stores, one at least.
    out
        The new store's file.
    shard_bytes
        Size of the new store's shards, bytes; up to it the store is one file.

    Raises
    ------
    StoreOptionsError
        The stores were made with different options.
    InputError
        No store is given, two stores have one id for different sources, or another store exists at `out`.
    StoreNotFoundError
        A store does not exist.
    """
    if not stores:
        raise InputError("merge needs at least one store, got none: name the stores to join")
    merged = contents(stores[0])
    for path in stores[1:]:
        merged = _joined(merged, contents(path), path)
    _write(Path(out), merged, shard_bytes, recipe("merge", stores, shard_bytes=shard_bytes))
    return merged


def subset(
    store: Path | str, out: Path | str, ids: Sequence[str], *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> StoreContents:
    """Write some videos of a store as a store of its own; return its contents.

    Class names stay, so that a label keeps its number; failures are left out.

    Parameters
    ----------
    store, out
        The store's file, and the new one's.
    ids
        The videos to take.
    shard_bytes
        Size of the new store's shards, bytes; up to it the store is one file.

    Raises
    ------
    InputError
        The store has no video of an id, no id is given, or another store exists at `out`.
    """
    whole = contents(store)
    if not ids:
        raise InputError("no ids are given: the new store would be empty")
    _check_known(ids, whole, store)
    wanted = sorted(set(ids))
    part = dataclasses.replace(
        whole,
        failures=(),
        records={k: whole.records[k] for k in wanted},
        paths={k: whole.paths[k] for k in wanted},
    )
    _write(Path(out), part, shard_bytes, recipe("subset", [store], ids=wanted, shard_bytes=shard_bytes))
    return part


def relabel(
    store: Path | str,
    out: Path | str,
    labels: Mapping[str, str],
    *,
    classes: Sequence[str] | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> StoreContents:
    """Write a store with other labels; return its contents.

    Parameters
    ----------
    store, out
        The store's file, and the new one's.
    labels
        The new label of each id that gets one; the others keep theirs.
    classes
        Class names in order; without them, the labels in use, sorted.
    shard_bytes
        Size of the new store's shards, bytes; up to it the store is one file.

    Raises
    ------
    InputError
        The store has no video of an id, a label is not among `classes`, or another store exists at `out`.
    """
    whole = contents(store)
    _check_known(list(labels), whole, store)
    records = {k: dataclasses.replace(r, label=labels.get(k, r.label)) for k, r in whole.records.items()}
    used = {record.label for record in records.values()} - {""}
    if classes is not None and (strays := sorted(used - set(classes))):
        raise InputError(f"labels {strays[:_NAMED]} are not among the {len(classes)} classes")
    relabelled = dataclasses.replace(
        whole,
        labels=tuple(sorted(used) if classes is None else classes),
        records=records,
        relabelled=frozenset(k for k in records if records[k] != whole.records[k]),
    )
    choices = {"labels": dict(labels), "classes": relabelled.labels, "shard_bytes": shard_bytes}
    _write(Path(out), relabelled, shard_bytes, recipe("relabel", [store], **choices))
    return relabelled


def _joined(first: StoreContents, second: StoreContents, path: Path | str) -> StoreContents:
    if differences := first.options.differences(second.options):
        raise StoreOptionsError(f"{path} was made with other options: {'; '.join(differences)}")
    both = first.records.keys() & second.records.keys()
    for video_id in sorted(both):
        if not first.records[video_id].fingerprint.matches(second.records[video_id].fingerprint):
            raise InputError(
                f"{path} and {first.paths[video_id]} have {video_id!r} from different sources; "
                "take it out of one of them with `flowkit subset`"
            )
    new = [label for label in second.labels if label not in first.labels]
    in_order = all(list(one.labels) == sorted(one.labels) for one in (first, second))
    labels = (*first.labels, *new)
    return dataclasses.replace(
        first,
        labels=tuple(sorted(labels)) if in_order else labels,
        failures=tuple(dict.fromkeys((*first.failures, *second.failures))),
        records={**second.records, **first.records},
        paths={**second.paths, **first.paths},
    )


def _check_known(ids: Sequence[str], whole: StoreContents, store: Path | str) -> None:
    if unknown := [k for k in ids if k not in whole.records]:
        raise InputError(f"{len(unknown)} ids are not in {store}: {unknown[:_NAMED]}")


def _write(out: Path, held: StoreContents, shard_bytes: int, work: str) -> None:
    """Write and commit a store: one file, or shards and then their master."""
    check_id_set({k: str(path) for k, path in held.paths.items()})
    lists = Lists(options=held.options, labels=held.labels, failures=held.failures)
    records = dict(sorted(held.records.items()))
    with new_store(out, work, is_made=lambda: _is_made(out, held)) as is_to_do:
        if is_to_do:
            carry_out(_plan(held, shard_bytes), survey(out), records, lists)
        write_ledger(out, held.failures)


def _is_made(out: Path, held: StoreContents) -> bool:
    """Return whether the store at `out` has these videos and lists."""
    found = contents(out)
    same_lists = (found.labels, found.failures) == (held.labels, held.failures)
    return same_lists and not found.options.differences(held.options) and found.records == held.records


def _plan(held: StoreContents, shard_bytes: int) -> PackPlan:
    """Divide the videos among files, in order of their ids."""
    groups = divided(_sizes(held), shard_bytes) or [()]
    sharded = len(groups) > 1
    files = [
        PlannedFile(
            action="rewritten", number=number if sharded else NO_SHARD, sources=sources_of(group, held.paths)
        )
        for number, group in enumerate(groups)
    ]
    return PackPlan(changed=True, sharded=sharded, files=tuple(files))


def _sizes(held: StoreContents) -> dict[str, float]:
    """Estimate the bytes of each video, by sorted id: its fraction of the pixels of the file it is in."""
    pixels = {k: record.n_frames * record.width * record.height for k, record in held.records.items()}
    per_file: dict[Path, int] = {}
    for video_id, path in held.paths.items():
        per_file[path] = per_file.get(path, 0) + pixels[video_id]
    file_bytes = {path: os.path.getsize(path) for path in per_file}
    sizes = {}
    for video_id in sorted(held.records):
        path = held.paths[video_id]
        sizes[video_id] = file_bytes[path] * pixels[video_id] / max(1, per_file[path])
    return sizes
