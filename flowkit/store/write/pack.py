"""Parts become a store: one file while they fit a shard, a master with shards beyond that.

Every file is written under a temporary name and renamed; what it replaces goes only after
that. So a kill at any moment leaves each committed video in some file that counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path

import h5py

from flowkit import atomic
from flowkit.errors import StoreOptionsError
from flowkit.store import checked_hdf5, index, places
from flowkit.store.inventory import Files, Inventory, Shard, shard_name, survey, take_inventory
from flowkit.store.schema import (
    NEXT_SHARD,
    SHARD_COLUMNS,
    SHARD_TABLE,
    SHARDS,
    VIDEOS,
    Failure,
    StoreOptions,
    VideoRecord,
    check_id_set,
)
from flowkit.store.tables import write_table
from flowkit.store.write.hdf5_file import hdf5_writer, write_attrs, write_root
from flowkit.store.write.parts_folder import PartsFolder

DEFAULT_SHARD_BYTES = 4 << 30

Sources = Mapping[Path, Sequence[str]]
"""Files to copy from, and the ids to take from each."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """What a store holds besides its videos."""

    options: StoreOptions
    labels: tuple[str, ...]
    failures: tuple[Failure, ...]


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
        Ids whose part, where there is one, takes the place of the stored video.
    drop
        Ids to leave out of the store.

    Returns
    -------
    bool
        Whether anything was written: nothing is when nothing is new.

    Raises
    ------
    StoreOptionsError
        A part or the store was made with other options.
    InputError
        One id is a folder of another.
    NoSpaceError
        The disk is full; what was committed stays.
    """
    store_path = Path(store_path)
    files = survey(store_path)
    stock = take_inventory(files)
    if stock.options is not None and (differences := stock.options.differences(options)):
        raise StoreOptionsError(f"{store_path} was made with other options: {'; '.join(differences)}")
    packer = _Packer(files, stock, replace=replace, drop=drop)
    lists = Lists(options=options, labels=_labels(labels, stock, packer.records), failures=tuple(failures))
    written = packer.run(lists, shard_bytes)
    write_ledger(store_path, lists.failures)
    packer.clean_up()
    return written


class _Packer:
    """The videos of a store to be, by the file that each is in now."""

    def __init__(self, files: Files, stock: Inventory, *, replace: Set[str], drop: Set[str]) -> None:
        self.files, self.stock = files, stock
        self._parts = PartsFolder(files.store_path)
        replaced = {video_id for video_id in replace if video_id in stock.repeated} - drop
        self.places = {k: path for k, path in stock.places.items() if k not in drop}
        self.places |= {video_id: stock.repeated[video_id] for video_id in replaced}
        # Videos that some committed file holds and that must not stay in it.
        in_parts = self._parts.path
        self._outdated = {k for k in stock.places if k in drop and stock.places[k].parent != in_parts}
        self._outdated |= replaced
        self.records = {k: self._record(k, replaced) for k in sorted(self.places)}
        check_id_set({k: str(path) for k, path in self.places.items()})
        self._fresh = [k for k in self.records if self.places[k].parent == in_parts]
        self._shards: dict[str, int] = {}

    def _record(self, video_id: str, replaced: Collection[str]) -> VideoRecord:
        if video_id not in replaced:
            return self.stock.records[video_id]
        path = self.places[video_id]
        with checked_hdf5.open_file(path) as file, checked_hdf5.contained(path):
            return checked_hdf5.read_record(file, video_id)

    def run(self, lists: Lists, shard_bytes: int) -> bool:
        """Write what is new; return whether anything was."""
        files, stock = self.files, self.stock
        same = (lists.labels, lists.failures) == (stock.labels, stock.failures)
        changed = bool(self._fresh or self._outdated or files.pending) or not same
        if not changed and files.store_path.exists():
            return False
        if self._fits_one_file(shard_bytes):
            self._write_single(lists)
        else:
            self._write_shards(lists, shard_bytes)
            self._write_master(lists)
        return True

    def clean_up(self) -> None:
        """Remove what the committed files made superfluous."""
        files = self.files
        fresh_paths = [self.places[video_id] for video_id in self._fresh]
        for path in [*fresh_paths, *self.stock.repeated.values()]:
            path.unlink(missing_ok=True)
        if files.store_path.exists():
            # Numbers of the shards that count now were taken note of while writing.
            for path in survey(files.store_path).rubbish:
                path.unlink(missing_ok=True)
        self._parts.remove_segments(self.records)
        with contextlib.suppress(OSError):  # not empty: the lock, or parts that cannot be read
            self._parts.path.rmdir()

    def _fits_one_file(self, shard_bytes: int) -> bool:
        files = self.files
        if files.table or files.pending or (files.store_path.exists() and not files.single):
            return False
        if not self._fresh:
            return True
        return sum(os.path.getsize(path) for path in set(self.places.values())) <= shard_bytes

    def _write_single(self, lists: Lists) -> None:
        path = self.files.store_path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_container(path, self._sources(self.records), self.records, lists)

    def _write_shards(self, lists: Lists, shard_bytes: int) -> None:
        """Write new shards: of the parts, and of files that hold what must not stay."""
        files = self.files
        files.shards.mkdir(parents=True, exist_ok=True)
        atomic.sync(files.store_path.parent)
        numbers = iter(range(files.next_shard, 10**9))
        for group in self._groups(shard_bytes):
            self._write_shard(next(numbers), group, lists)
            for video_id in group:
                self.places[video_id].unlink(missing_ok=True)
        for path in sorted(set(self.stock.places.values())):
            if path.parent == self._parts.path:
                continue
            stay = [k for k in self.records if self.places[k] == path]
            if path == files.store_path:
                self._move_single(next(numbers), stay, lists)
            elif not self._outdated.isdisjoint(k for k, p in self.stock.places.items() if p == path):
                if stay:
                    self._write_shard(next(numbers), stay, lists)
            else:
                self._shards |= dict.fromkeys(stay, int(path.stem))

    def _move_single(self, number: int, stay: list[str], lists: Lists) -> None:
        """Make a shard of a single file: by a link if it stays as it is."""
        single = self.files.store_path
        with checked_hdf5.open_file(single) as file, checked_hdf5.contained(single):
            whole = len(stay) == len(index.read_index(file)[0])
        if stay and not whole:
            self._write_shard(number, stay, lists)
        elif stay:
            link_or_copy(single, self.files.shard_path(number))
            self._shards |= dict.fromkeys(stay, number)

    def _write_shard(self, number: int, video_ids: Sequence[str], lists: Lists) -> None:
        records = {video_id: self.records[video_id] for video_id in video_ids}
        write_container(self.files.shard_path(number), self._sources(records), records, lists, number=number)
        self._shards |= dict.fromkeys(video_ids, number)

    def _write_master(self, lists: Lists) -> None:
        write_master(self.files, self.records, self._shards, lists)

    def _sources(self, video_ids: Collection[str]) -> Sources:
        sources: dict[Path, list[str]] = {}
        for video_id in video_ids:
            sources.setdefault(self.places[video_id], []).append(video_id)
        return sources

    def _groups(self, shard_bytes: int) -> Iterator[list[str]]:
        """Divide the parts among shards, in order of their ids."""
        group: list[str] = []
        size = 0
        for video_id in self._fresh:
            bytes_here = os.path.getsize(self.places[video_id])
            if group and size + bytes_here > shard_bytes:
                yield group
                group, size = [], 0
            group.append(video_id)
            size += bytes_here
        if group:
            yield group


def write_container(
    path: Path,
    sources: Sources,
    records: Mapping[str, VideoRecord],
    lists: Lists,
    *,
    number: int = index.NO_SHARD,
    restated: Collection[str] = (),
) -> None:
    """Write a single-file store or a shard with the videos of `sources`, and commit it.

    Parameters
    ----------
    restated
        Videos whose groups say something else than `records`, which they say from now on.
    """
    with atomic.replacement(path) as temporary:
        with hdf5_writer(temporary) as file:
            write_root(file, lists.options)
            file.create_group(VIDEOS)
            for source, video_ids in sources.items():
                _copy_videos(source, video_ids, file, lists.options)
            for video_id in restated:
                write_attrs(file[f"{VIDEOS}/{video_id}"], records[video_id].to_attrs())
            index.write_lists(file, lists.labels, lists.failures)
            index.write_index(file, records, dict.fromkeys(records, number))
            places.write_places(file, list(records), lists.options)
        places.stamp_file_bytes(temporary)


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
        write_table(file, SHARD_TABLE, SHARD_COLUMNS, [dataclasses.asdict(shard) for shard in table])
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
    # A committed shard never changes, so that its digest holds.
    if shard is not None and shard.bytes == size:
        return shard
    return Shard(name=path.name, bytes=size, sha256=file_sha256(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    """Give a committed file a second name; where links cannot be, commit a copy."""
    with atomic.no_space_translated(target):
        try:
            os.link(source, target)
            atomic.sync(target.parent)
        except OSError as error:
            if atomic.is_no_space(error):
                raise
            with atomic.replacement(target) as temporary:
                shutil.copyfile(source, temporary)


def _labels(
    given: Sequence[str] | None, stock: Inventory, records: Mapping[str, VideoRecord]
) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    seen = {record.label for record in records.values() if record.label}
    kept = stock.labels
    if list(kept) == sorted(kept):
        return tuple(sorted(seen | set(kept)))
    return (*kept, *sorted(seen - set(kept)))


def ledger_path(store_path: Path) -> Path:
    """Return the file beside a store that lists its failures, one JSON object a line."""
    return store_path.with_name(f"{store_path.name}.failures.jsonl")


def write_ledger(store_path: Path, failures: Sequence[Failure]) -> None:
    """Write the failures beside a store; without any, remove what is there."""
    path = ledger_path(store_path)
    text = "".join(failure.to_json() + "\n" for failure in failures)
    if not text:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic.replacement(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
