"""Write the files of a store: one with videos, the master that names shards, the ledger of failures.

Each is written under a temporary name; the rename commits it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import h5py

from flowkit import atomic
from flowkit.errors import StoreOptionsError
from flowkit.store import addresses, checked_hdf5, index
from flowkit.store.hdf5_file import hdf5_writer, write_attrs, write_root
from flowkit.store.inventory import Files, Shard, shard_name
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import NEXT_SHARD, SHARD_COLUMNS, SHARD_TABLE, SHARDS, VIDEOS, StoreOptions
from flowkit.store.write.pack_plan import Sources


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """The options, class names and failures of a store."""

    options: StoreOptions
    labels: tuple[str, ...]
    failures: tuple[Failure, ...]


def write_container(
    path: Path,
    sources: Sources,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    *,
    number: int = index.NO_SHARD,
    relabelled: Collection[str] = (),
) -> None:
    """Write a single-file store or a shard with the videos of `sources`, and commit it.

    Parameters
    ----------
    relabelled
        Videos whose groups hold other records; those of `records` overwrite them.
    """
    with atomic.replacement(path) as temporary:
        with hdf5_writer(temporary) as file:
            write_root(file, lists.options)
            file.create_group(VIDEOS)
            for source, video_ids in sources.items():
                _copy_videos(source, video_ids, file, lists.options)
            for video_id in relabelled:
                write_attrs(file[f"{VIDEOS}/{video_id}"], records[video_id].to_attrs())
            index.write_lists(file, lists.labels, lists.failures)
            index.write_index(file, records, dict.fromkeys(records, number))
            addresses.write_addresses(file, list(records), lists.options)
        addresses.stamp_file_bytes(temporary)


def _copy_videos(source: Path, video_ids: Sequence[str], target: h5py.File, options: StoreOptions) -> None:
    """Copy whole groups as they are stored, without decoding."""
    nested = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    nested.set_create_intermediate_group(True)
    with checked_hdf5.open_file(source) as file:
        differences = checked_hdf5.read_options(file).differences(options)
        if differences:
            raise StoreOptionsError(f"{source} was made with other options: {'; '.join(differences)}")
        for video_id in video_ids:
            name = f"{VIDEOS}/{video_id}".encode()
            h5py.h5o.copy(file.id, name, target.id, name, lcpl=nested)


def write_master(
    files: Files, records: Mapping[str, VideoRecord], shards: Mapping[str, int], lists: Lists
) -> None:
    """Write the master that names the shards of each video, and commit it."""
    known = {shard.name: shard for shard in files.table}
    table = [_shard_row(files, number, known) for number in sorted(set(shards.values()))]
    folder = files.shards.name
    with (
        atomic.replacement(files.store_path) as temporary,
        hdf5_writer(temporary) as file,
    ):
        write_root(file, lists.options)
        next_shard = max([files.next_shard, *(shard.number + 1 for shard in table)])
        write_attrs(file, {NEXT_SHARD: next_shard})
        index.write_lists(file, lists.labels, lists.failures)
        index.write_index(file, records, shards)
        index.write_table(file, SHARD_TABLE, SHARD_COLUMNS, [dataclasses.asdict(shard) for shard in table])
        file.create_group(SHARDS)
        file.create_group(VIDEOS)
        for shard in table:
            file[f"{SHARDS}/{shard.number:05d}"] = h5py.ExternalLink(f"{folder}/{shard.name}", "/")
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
