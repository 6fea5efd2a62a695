"""Make a store of stores: merged, a part of one, or with other labels.

What is stored is moved as it is, never decoded. The sources stay as they are, and the new store
comes to be as any other: under temporary names, with a rename as the last step.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowkit import atomic
from flowkit.errors import InputError, StoreNotFoundError, StoreOptionsError
from flowkit.store.inventory import survey, take_inventory
from flowkit.store.schema import Failure, StoreOptions, VideoRecord, check_id_set
from flowkit.store.write.pack import DEFAULT_SHARD_BYTES, Lists, write_container, write_ledger, write_master
from flowkit.store.write.parts_folder import PartsFolder, parts_path, shards_path

_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What a store holds, and where."""

    options: StoreOptions
    labels: tuple[str, ...]
    failures: tuple[Failure, ...]
    records: Mapping[str, VideoRecord]
    places: Mapping[str, Path]
    """The file of each video."""
    restated: frozenset[str] = frozenset()
    """Videos whose record is not what their file says."""


def contents(store_path: Path | str) -> Contents:
    """Return what a finished store holds.

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
    stock = take_inventory(survey(path))
    if stock.options is None:
        raise StoreNotFoundError(f"the store at {path} holds nothing")
    return Contents(
        options=stock.options,
        labels=stock.labels,
        failures=stock.failures,
        records=stock.records,
        places=stock.places,
    )


def merge(
    stores: Sequence[Path | str], out: Path | str, *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> Contents:
    """Write the videos of several stores of equal options as one; return what it holds.

    Class names keep the first store's order, new ones follow (or all are sorted, where all were).
    A video that several stores have from the same source is taken from the first.

    Raises
    ------
    StoreOptionsError
        The stores were made with different options.
    InputError
        Two stores have one id for different sources, or `out` is there already.
    """
    merged = contents(stores[0])
    for path in stores[1:]:
        merged = _joined(merged, contents(path), path)
    _write(Path(out), merged, shard_bytes)
    return merged


def subset(
    store: Path | str, out: Path | str, ids: Sequence[str], *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> Contents:
    """Write some videos of a store as a store of its own; return what it holds.

    Class names stay, so that a label keeps its number; failures are left behind.

    Raises
    ------
    InputError
        The store has no video of an id, none is asked for, or `out` is there already.
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
        places={k: whole.places[k] for k in wanted},
    )
    _write(Path(out), part, shard_bytes)
    return part


def relabel(
    store: Path | str,
    out: Path | str,
    labels: Mapping[str, str],
    *,
    classes: Sequence[str] | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Contents:
    """Write a store with other labels; return what it holds.

    Parameters
    ----------
    labels
        The new label of each id that gets one; the others keep theirs.
    classes
        Class names in order; without them, the labels in use, sorted.

    Raises
    ------
    InputError
        The store has no video of an id, a label is not among `classes`, or `out` is there already.
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
        restated=frozenset(k for k in records if records[k] != whole.records[k]),
    )
    _write(Path(out), relabelled, shard_bytes)
    return relabelled


def check_new(out: Path) -> None:
    """Raise InputError if a store, or what a run left of one, is at `out`."""
    left = [
        folder for folder in (shards_path(out), parts_path(out)) if folder.is_dir() and any(folder.iterdir())
    ]
    if out.exists() or left:
        raise InputError(
            f"{left[0] if left else out} is there already; name a store that is not, or remove it first"
        )


def _joined(first: Contents, second: Contents, path: Path | str) -> Contents:
    if differences := first.options.differences(second.options):
        raise StoreOptionsError(f"{path} was made with other options: {'; '.join(differences)}")
    both = first.records.keys() & second.records.keys()
    for video_id in sorted(both):
        if not first.records[video_id].fingerprint.matches(second.records[video_id].fingerprint):
            raise InputError(
                f"{path} and {first.places[video_id]} have {video_id!r} from different sources; "
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
        places={**second.places, **first.places},
    )


def _check_known(ids: Sequence[str], whole: Contents, store: Path | str) -> None:
    if unknown := [k for k in ids if k not in whole.records]:
        raise InputError(f"{len(unknown)} ids are not in {store}: {unknown[:_NAMED]}")


def _write(out: Path, held: Contents, shard_bytes: int) -> None:
    """Write and commit a store: one file, or shards and then their master."""
    check_new(out)
    check_id_set({k: str(path) for k, path in held.places.items()})
    lists = Lists(options=held.options, labels=held.labels, failures=held.failures)
    out.parent.mkdir(parents=True, exist_ok=True)
    with PartsFolder(out).lock():
        groups = list(_groups(held, shard_bytes))
        if len(groups) <= 1:
            _write_file(out, sorted(held.records), held, lists)
        else:
            _write_shards(out, groups, held, lists)
        write_ledger(out, held.failures)


def _write_shards(out: Path, groups: Sequence[Sequence[str]], held: Contents, lists: Lists) -> None:
    files = survey(out)
    files.shards.mkdir(exist_ok=True)
    atomic.sync(out.parent)
    shards: dict[str, int] = {}
    for number, group in enumerate(groups):
        _write_file(files.shard_path(number), group, held, lists, number=number)
        shards |= dict.fromkeys(group, number)
    write_master(files, dict(sorted(held.records.items())), shards, lists)


def _write_file(
    path: Path, ids: Sequence[str], held: Contents, lists: Lists, *, number: int | None = None
) -> None:
    sources: dict[Path, list[str]] = {}
    for video_id in ids:
        sources.setdefault(held.places[video_id], []).append(video_id)
    records = {video_id: held.records[video_id] for video_id in ids}
    restated = held.restated.intersection(ids)
    if number is None:
        write_container(path, sources, records, lists, restated=restated)
    else:
        write_container(path, sources, records, lists, restated=restated, number=number)


def _groups(held: Contents, shard_bytes: int) -> Iterator[list[str]]:
    """Divide the videos among files, in order of their ids, by their share of the files they are in."""
    pixels = {k: record.n_frames * record.width * record.height for k, record in held.records.items()}
    per_file: dict[Path, int] = {}
    for video_id, path in held.places.items():
        per_file[path] = per_file.get(path, 0) + pixels[video_id]
    group: list[str] = []
    size = 0.0
    for video_id in sorted(held.records):
        path = held.places[video_id]
        share = os.path.getsize(path) * pixels[video_id] / max(1, per_file[path])
        if group and size + share > shard_bytes:
            yield group
            group, size = [], 0.0
        group.append(video_id)
        size += share
    if group:
        yield group
