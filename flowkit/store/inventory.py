"""Inventory of a store: its files, in whatever state a run left them, and their videos.

A shard is committed before the master that names it, and its parts are removed in between; so
after a kill there may be shards that no master names. Their numbers decide which are valid: they only
grow, and a master has the next one. A shard of that number or above is newer than the master
and valid; one below that is not in the table was replaced, and is a leftover.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError, StoreUnreadableError
from flowkit.store import checked_hdf5, index
from flowkit.store.metadata import read_records
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.parts_folder import PartsFolder, shards_path
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import NEXT_SHARD, SHARD_COLUMNS, SHARD_TABLE, StoreOptions

_SHARD_NAME = re.compile(r"(\d{5,9})\.h5")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One row of a master's shard table."""

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _SHARD_NAME.fullmatch(self.name):
            raise StoreFormatError(f"the shard table names {self.name!r}; a shard is called as 00000.h5")

    @property
    def number(self) -> int:
        """Its number, from its name."""
        return shard_number(self.name)


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.h5"


def shard_number(name: str) -> int:
    """Return the number of a shard's file name."""
    return int(name.split(".")[0])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The files of a store."""

    store_path: Path
    exists: bool
    """True if `store_path` exists; shards may exist before it."""
    single: bool
    """The store's file holds the videos itself."""
    table: tuple[Shard, ...]
    """The shards that the master names."""
    pending: tuple[Path, ...]
    """Shards newer than the master, by number."""
    leftover: tuple[Path, ...]
    """Shards that were replaced."""
    next_shard: int

    @property
    def shards(self) -> Path:
        """The folder of shards."""
        return shards_path(self.store_path)

    def shard_path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.shards / shard_name(number)

    @property
    def missing(self) -> tuple[Path, ...]:
        """Shards that the master names and that are not there."""
        named = [self.shards / shard.name for shard in self.table]
        return tuple(path for path in named if not path.is_file())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """The videos of a store and its parts; all empty where there is no store yet."""

    records: Mapping[str, VideoRecord]
    paths: Mapping[str, Path]
    """The file that holds each video."""
    options: StoreOptions | None
    labels: tuple[str, ...] = ()
    """Class names of the store, or of shards newer than the master that have those and more."""
    failures: tuple[Failure, ...] = ()
    repeated: Mapping[str, Path]
    """Parts of videos that the store holds too, where the store's are valid."""
    superseded: frozenset[Path]
    """Files with a video that a newer shard holds too."""
    damaged: Mapping[Path, str]
    """Parts that cannot be read, and why; their videos count as missing."""
    head: Head | None = None
    """What the store's own file has, so that it need not be read again while it stays as it is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The contents of a store's own file.

    Attributes
    ----------
    state : tuple of int
        Number, size and time of the file when it was read: a commit makes another.
    records : mapping
        By id.
    shards : mapping
        Number of each video's shard.
    options : StoreOptions
    labels : tuple of str
    failures : tuple of Failure
    """

    state: tuple[int, int, int]
    records: Mapping[str, VideoRecord]
    shards: Mapping[str, int]
    options: StoreOptions
    labels: tuple[str, ...]
    failures: tuple[Failure, ...]


def shard_files(store_path: Path) -> list[Path]:
    """Return the files in the folder of shards of a store that are called as shards are."""
    folder = shards_path(store_path)
    return [path for path in folder.iterdir() if _SHARD_NAME.fullmatch(path.name)] if folder.is_dir() else []


def survey(store_path: Path, *, recovers: bool = False) -> Files:
    """Find the files of a store.

    Parameters
    ----------
    store_path
        The store's file, which need not be there.
    recovers
        As of `open_file`: damaged metadata that can be proven are no obstacle.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The store's file is no store, or damaged.
    """
    table: tuple[Shard, ...] = ()
    next_shard, single = 0, False
    exists = store_path.exists()
    if exists:
        with open_file(store_path, recovers=recovers) as file, checked_hdf5.contained(store_path):
            single = SHARD_TABLE not in file
            if not single:
                table, next_shard = read_shard_table(file)
    found = shard_files(store_path)
    named = {shard.name for shard in table}
    loose = sorted((path for path in found if path.name not in named), key=lambda p: shard_number(p.name))
    return Files(
        store_path=store_path,
        exists=exists,
        single=single,
        table=table,
        pending=tuple(path for path in loose if shard_number(path.name) >= next_shard),
        leftover=tuple(path for path in loose if shard_number(path.name) < next_shard),
        next_shard=max([next_shard, *(shard_number(path.name) + 1 for path in found)]),
    )


def read_shard_table(file: StoreFile) -> tuple[tuple[Shard, ...], int]:
    """Return the shards that a master names, and the number of the next one."""
    rows = index.read_table(file, SHARD_TABLE, SHARD_COLUMNS)
    next_shard = file.metadata.next_shard
    if next_shard is None:
        raise StoreFormatError(f"{file.filename} has a shard table, but no attribute {NEXT_SHARD}")
    return tuple(Shard(**row) for row in index.all_rows(rows, SHARD_COLUMNS)), next_shard


def inventory(store_path: Path | str) -> Inventory:
    """Return the videos of a store and of its parts, in whatever state a run left them.

    Raises
    ------
    StoreFormatError
        The store's file is no store.
    StoreCorruptError
        A committed file is damaged.
    StoreUnreadableError
        A shard is not there, or a file cannot be read now.
    """
    return take_inventory(survey(Path(store_path)))


def take_inventory(
    files: Files,
    *,
    known: Mapping[Path, tuple[VideoRecord, StoreOptions]] = MappingProxyType({}),
    before: Inventory | None = None,
) -> Inventory:
    """Return the videos in the files of a store and of its parts; see `inventory`.

    Parameters
    ----------
    files
        From `survey`.
    known
        Parts that are not read again, with what `read_part` returned of them.
    before
        An earlier one of the same store.
    """
    if files.missing:
        raise StoreUnreadableError(
            f"{files.store_path} names shards that are not there: {', '.join(map(str, files.missing))}; "
            "put them back, or mount their folder; `flowkit verify --repair --lost` drops the videos "
            "of shards that are gone for good"
        )
    gathering = _Gathering()
    if files.exists:
        gathering.add_head(files, None if before is None else before.head)
    # Shards newer than the master or the single file take precedence: they were written to replace it.
    for path in files.pending:
        gathering.add_file(path)
    gathering.add_parts(PartsFolder(files.store_path), known)
    return Inventory(
        records=gathering.records,
        paths=gathering.paths,
        options=gathering.options,
        labels=gathering.labels,
        failures=gathering.failures,
        repeated=gathering.repeated,
        superseded=frozenset(gathering.superseded),
        damaged=gathering.damaged,
        head=gathering.head,
    )


class _Gathering:
    """Collects an inventory, file by file."""

    def __init__(self) -> None:
        self.records: dict[str, VideoRecord] = {}
        self.paths: dict[str, Path] = {}
        self.options: StoreOptions | None = None
        self.labels: tuple[str, ...] = ()
        self.failures: tuple[Failure, ...] = ()
        self.repeated: dict[str, Path] = {}
        self.superseded: set[Path] = set()
        self.damaged: dict[Path, str] = {}
        self.head: Head | None = None

    def add_head(self, files: Files, before: Head | None) -> None:
        path = files.store_path
        head = before if before is not None and before.state == _state(path) else _read_head(path)
        self.head, self.options = head, head.options
        self.labels, self.failures = head.labels, head.failures
        records, shards = head.records, head.shards
        known = {shard.number for shard in files.table}
        for video_id, record in records.items():
            if not files.single and shards[video_id] not in known:
                raise StoreCorruptError(f"the index of {path} has {video_id!r} in an unknown shard")
            self.records[video_id] = record
            self.paths[video_id] = path if files.single else files.shard_path(shards[video_id])

    def add_file(self, path: Path) -> None:
        with open_file(path) as file, checked_hdf5.contained(path):
            records, _ = index.read_index(file)
            labels = file.metadata.labels
            self.options = self.options or file.metadata.options
        if set(labels) >= set(self.labels):  # those that the next master was to have
            self.labels = labels
        self.superseded |= {self.paths[k] for k in records if k in self.paths}
        self.records |= records
        self.paths |= dict.fromkeys(records, path)

    def add_parts(self, parts: PartsFolder, known: Mapping[Path, tuple[VideoRecord, StoreOptions]]) -> None:
        for path in parts.committed_parts():
            try:
                record, options = known[path] if path in known else read_part(path)
            except StoreUnreadableError:
                raise
            except StoreError as error:
                self.damaged[path] = str(error)
                continue
            if record.video_id in self.records:
                self.repeated[record.video_id] = path
                continue
            self.options = self.options or options
            self.records[record.video_id] = record
            self.paths[record.video_id] = path


def _read_head(path: Path) -> Head:
    state = _state(path)  # before it is read: one that takes its place meanwhile is read again
    with open_file(path) as file, checked_hdf5.contained(path):
        records, shards = index.read_index(file)
        return Head(
            state=state,
            records=records,
            shards=shards,
            options=file.metadata.options,
            labels=file.metadata.labels,
            failures=index.read_failures(file),
        )


def _state(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def read_part(path: Path) -> tuple[VideoRecord, StoreOptions]:
    """Return the record of a part's one video, and its options."""
    with open_file(path) as file:
        return part_contents(file)


def part_contents(file: StoreFile) -> tuple[VideoRecord, StoreOptions]:
    """Return what `read_part` returns, of an open part."""
    with checked_hdf5.contained(file.filename):
        records = dict(file.metadata.records)
        if not records:  # of format 1.0
            for video_id, record in read_records(file, checked_hdf5.video_ids(file)).items():
                if isinstance(record, StoreError):
                    raise record
                records[video_id] = record
        if len(records) != 1:
            raise StoreCorruptError(f"the part {file.filename} holds {len(records)} videos, expected 1")
        return next(iter(records.values())), file.metadata.options
