"""Pack parts into a store: one file up to the size of a shard, a master with shards beyond that.

`pack_plan` decides the files; this module carries the plan out and writes them: files with videos, the
master that names shards, the ledger of failures. Every file is written under a temporary name and renamed;
the files that it replaces are removed only after that. So a kill at any moment leaves each committed video
in some valid file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

import h5py

from flowkit import atomic
from flowkit.errors import StoreOptionsError
from flowkit.store import file_crc, index
from flowkit.store.hdf5_file import hdf5_writer
from flowkit.store.inventory import Files, Inventory, Shard, read_part, shard_name, survey, take_inventory
from flowkit.store.metadata import Metadata, write_metadata
from flowkit.store.parts_folder import PartsFolder, parts_path
from flowkit.store.record import Failure, VideoRecord, check_id_set
from flowkit.store.schema import (
    DEFAULT_SHARD_BYTES,
    SHARD_COLUMNS,
    SHARD_TABLE,
    SHARDS,
    VIDEOS,
    StoreOptions,
)
from flowkit.store.write.container import ContainerWriter, Lists
from flowkit.store.write.pack_plan import Holdings, PackPlan, PackRules, Sources, plan_pack
from flowkit.store.write.put_away import broken_path, put_away


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ahead:
    """Parts that were packed before the end of a run.

    Attributes
    ----------
    begun : ContainerWriter or None
        A file with copies of them.
    known : mapping
        Record and options of each, as `read_part` returned them.
    """

    begun: ContainerWriter | None
    known: Mapping[Path, tuple[VideoRecord, StoreOptions]]


def finalize(
    store_path: Path | str,
    *,
    options: StoreOptions,
    labels: Sequence[str] | None = None,
    failures: Sequence[Failure] = (),
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    replace: Set[str] = frozenset(),
    drop: Set[str] = frozenset(),
    ahead: Ahead | None = None,
    found: Inventory | None = None,
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
    ahead
        What was packed already; see `flowkit.store.write.pack_ahead`.
    found
        An earlier inventory of the store: of a file that has not changed since nothing is read again.

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
    inventory = take_inventory(files, known=ahead.known if ahead is not None else {}, before=found)
    if inventory.options is not None and (differences := inventory.options.differences(options)):
        raise StoreOptionsError(f"{store_path} was made with other options: {'; '.join(differences)}")
    held, rules = holdings(files, inventory), PackRules(shard_bytes=shard_bytes, replace=replace, drop=drop)
    records = _records(inventory, held, rules)
    if labels is None:
        labels = merged_labels(inventory.labels, (record.label for record in records.values()))
    lists = Lists(options=options, labels=tuple(labels), failures=tuple(failures))
    lists_changed = (lists.labels, lists.failures) != (inventory.labels, inventory.failures)
    plan = plan_pack(held, rules, lists_changed=lists_changed)
    check_id_set({video_id: str(path) for video_id, path in plan.paths.items()})
    if plan.changed:
        carry_out(plan, files, records, lists, begun=ahead.begun if ahead is not None else None)
    write_ledger(store_path, lists.failures)
    _clean_up(plan, files, settled=records.keys() | rules.drop)
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


def _records(inventory: Inventory, held: Holdings, rules: PackRules) -> dict[str, VideoRecord]:
    """Return the records that the store will hold, by sorted id."""
    records = {k: record for k, record in inventory.records.items() if k not in rules.drop}
    records |= {k: read_part(held.repeated[k])[0] for k in rules.replaced(held)}
    return dict(sorted(records.items()))


def merged_labels(kept: Sequence[str], seen: Iterable[str]) -> tuple[str, ...]:
    """Return class names with those of videos: sorted, or appended where they are in another order.

    Parameters
    ----------
    kept
        The class names so far, in their order.
    seen
        The class of each video; "" is none.
    """
    new = {label for label in seen if label} - set(kept)
    if list(kept) == sorted(kept):
        return tuple(sorted(new | set(kept)))
    return (*kept, *sorted(new))


def _clean_up(plan: PackPlan, files: Files, *, settled: Set[str]) -> None:
    """Remove the files that the committed ones made superfluous."""
    parts = PartsFolder(files.store_path)
    for path in plan.removed:
        if path.parent == files.shards:
            put_away(path, settled, broken_path(files.store_path))
        else:  # a part, whose video is in the store
            path.unlink(missing_ok=True)
    parts.remove_segments(plan.paths)
    parts.remove_recipe()  # an extraction went on where a store was being made of others
    with contextlib.suppress(OSError):  # not empty: the lock, or parts that cannot be read
        parts.path.rmdir()


def carry_out(
    plan: PackPlan,
    files: Files,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    *,
    begun: ContainerWriter | None = None,
) -> None:
    """Write and commit the files of a plan in its order, the master last.

    Parameters
    ----------
    records
        Records of all videos of the plan, by sorted id; videos that are written get them.
    begun
        A file with some of the videos: the first planned file that it fits takes it.
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
            own = {video_id: records[video_id] for video_id in planned.video_ids}
            write_container(
                path,
                planned.sources,
                own,
                lists,
                number=planned.number,
                begun=begun,
            )
        if planned.action == "packed":
            for part in planned.sources:
                part.unlink(missing_ok=True)
    if plan.sharded:
        write_master(files, records, plan.shards, lists)


def write_container(
    path: Path,
    sources: Sources,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    *,
    number: int = index.NO_SHARD,
    begun: ContainerWriter | None = None,
) -> None:
    """Write a single-file store or a shard with the videos of `sources`, and commit it.

    Parameters
    ----------
    path
        The committed file, in a folder that exists; a file of that name is replaced.
    sources
        Files to copy from, and the ids to take from each.
    records
        Records of these videos, by sorted id.
    lists
        Options, class names and failures that the file gets.
    number
        Number of the shard; NO_SHARD for a store's own file.
    begun
        A file that may have some of the videos already; it is used if it fits and can be renamed to `path`.

    Raises
    ------
    StoreOptionsError
        A source has other options.
    StoreError
        A source is damaged, or cannot be read.
    NoSpaceError
        The disk is full; a file that was at `path` is still there.
    """

    def write(container: ContainerWriter) -> None:
        with container:
            for source, video_ids in sources.items():
                container.copy(source, {video_id: records[video_id] for video_id in video_ids})
            container.commit(path, records, lists, number=number)

    if begun is not None and begun.can_become(sources):
        try:
            return write(begun)
        except OSError as error:
            # Its folder may be on another file system; two mounts of one show only in the rename.
            if error.errno != errno.EXDEV:
                raise
    write(ContainerWriter(path, lists.options))


def write_master(
    files: Files, records: Mapping[str, VideoRecord], shards: Mapping[str, int], lists: Lists
) -> None:
    """Write the master that names the shards of each video, and commit it."""
    known = {shard.name: shard for shard in files.table}
    table = [_shard_row(files, number, known) for number in sorted(set(shards.values()))]
    next_shard = max([files.next_shard, *(shard.number + 1 for shard in table)])
    metadata = Metadata(options=lists.options, labels=lists.labels, next_shard=next_shard)
    with atomic.replacement(files.store_path) as temporary:
        with hdf5_writer(temporary) as file:
            write_metadata(file, metadata)
            index.write_lists(file, lists.labels, lists.failures)
            index.write_index(file, records, shards)
            rows = [dataclasses.asdict(shard) for shard in table]
            index.write_table(file, SHARD_TABLE, SHARD_COLUMNS, rows)
            _write_links(file, files.shards.name, shards)
            file_crc.reserve(file)
        file_crc.stamp(temporary, file_crc.NO_CHUNKS)


def _write_links(file: h5py.File, folder: str, shards: Mapping[str, int]) -> None:
    """Write the links by which plain h5py finds shards and videos."""
    file.create_group(SHARDS)
    file.create_group(VIDEOS)
    for number in sorted(set(shards.values())):
        file[f"{SHARDS}/{number:05d}"] = h5py.ExternalLink(f"{folder}/{shard_name(number)}", "/")
    for video_id, number in shards.items():
        path = f"{VIDEOS}/{video_id}"
        file[path] = h5py.ExternalLink(f"{folder}/{shard_name(number)}", f"/{path}")


def _shard_row(files: Files, number: int, known: Mapping[str, Shard]) -> Shard:
    path = files.shard_path(number)
    size = os.path.getsize(path)
    shard = known.get(path.name)
    # A committed shard never changes: its digest stays valid.
    if shard is not None and shard.bytes == size:
        return shard
    return Shard(name=path.name, bytes=size, sha256=file_sha256(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Link a committed file to a second name; where hard links are impossible, commit a copy."""
    with atomic.no_space_translated(target):
        try:
            os.link(source, target)
            atomic.sync(target.parent)
        except OSError as error:
            if atomic.is_no_space(error):
                raise
            with atomic.replacement(target) as temporary:
                shutil.copyfile(source, temporary)


def ledger_path(store_path: Path) -> Path:
    """Return the file beside a store that lists its failures, one JSON object a line."""
    return store_path.with_name(f"{store_path.name}.failures.jsonl")


def write_ledger(store_path: Path, failures: Sequence[Failure]) -> None:
    """Write the failures beside a store; without any, remove the ledger."""
    path = ledger_path(store_path)
    text = "".join(failure.to_json() + "\n" for failure in failures)
    if not text:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic.replacement(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
