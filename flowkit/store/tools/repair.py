"""Drop unsound videos from a store, so that the next extraction redoes them."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from flowkit.errors import StoreCorruptError, StoreError, StoreFormatError, StoreUnreadableError
from flowkit.store import checked_hdf5, index
from flowkit.store.inventory import Files, shard_number, survey
from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.tools.check_file import FileReport, check_file
from flowkit.store.tools.file_text import noted
from flowkit.store.tools.verify import VerifyReport, check_shard, verify
from flowkit.store.write.container import Lists
from flowkit.store.write.pack import carry_out, file_sha256, link_or_copy, write_container
from flowkit.store.write.pack_plan import PackPlan, PlannedFile
from flowkit.store.write.put_away import broken_path, free_place, put_away


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RepairReport:
    """Result of `repair`."""

    dropped: tuple[str, ...]
    """Ids of removed videos; of a shard that cannot be read, those of the index."""
    kept: int
    """Number of videos that remain."""
    rewritten: bool
    """True if anything was unsound."""


def repair(
    path: Path | str, *, lost: bool = False, delete: bool = False, jobs: int | None = 1
) -> RepairReport:
    """Rewrite a store without its unsound videos, and remove what killed runs left of it.

    A sound store stays as it is. New files are written under temporary names, then renamed. Files that have
    unsound videos move to the folder `<store>.broken`; what cannot be read is never judged.

    Parameters
    ----------
    path
        The store's file.
    lost
        Take shards that are not there for lost, and drop their videos.
    delete
        Delete the folder of broken files at the end, with what earlier repairs moved there.
    jobs
        Processes that decode, >= 1; None is one a core.

    Raises
    ------
    StoreBusyError
        Another process is writing the store.
    StoreUnreadableError
        A file cannot be read now, or a shard is not there; nothing was changed.
    StoreNotFoundError, StoreFormatError, StoreCorruptError
        The store's file cannot be opened: of a single file nothing can be kept; a master may be
        removed, and the next extraction makes another from its shards.
    """
    path = Path(path)
    parts = PartsFolder(path)
    with parts.lock():
        report = verify(path, deep=True, jobs=jobs)
        _check_readable(path, report, lost=lost)
        parts.remove_dead_temporaries()
        before = _indexed(path)
        kept: Collection[str] = before
        if not report.sound:
            files = survey(path, recovers=True)
            kept = _rewrite_single(files) if files.single else _rewrite_shards(files, before, lost=lost)
        for leftover in survey(path).leftover:
            put_away(leftover, kept, broken_path(path))
        if delete and broken_path(path).exists():
            shutil.rmtree(broken_path(path))
    dropped = (before.keys() | report.videos.keys()) - set(kept)
    return RepairReport(dropped=tuple(sorted(dropped)), kept=len(kept), rewritten=not report.sound)


def _check_readable(path: Path, report: VerifyReport, *, lost: bool) -> None:
    missing = {f"shard {file.name}: " for file in survey(path, recovers=True).missing} if lost else set()
    unknown = [why for why in report.unreadable if not any(why.startswith(name) for name in missing)]
    if unknown:
        raise StoreUnreadableError(
            f"{path} is not repaired, since nothing is known of what cannot be read: {'; '.join(unknown)}; "
            "shards that are gone for good: `flowkit verify --repair --lost` drops their videos"
        )


def _is_aside(path: Path, broken: Path) -> bool:
    """Return whether a file, or a copy of it, is in the folder of broken ones."""
    size = path.stat().st_size
    there = [file for file in broken.iterdir() if file.stat().st_size == size] if broken.is_dir() else []
    return any(file.samefile(path) or file_sha256(file) == file_sha256(path) for file in there)


def is_unfinished(path: Path | str) -> bool:
    """Return whether a run that was killed left files beside a store that `repair` removes."""
    return PartsFolder(path).is_unfinished() or bool(survey(Path(path), recovers=True).leftover)


def _rewrite_single(files: Files) -> dict[str, VideoRecord]:
    path = files.store_path
    records = dict(check_file(path).records)
    # The new file's rename would end the old one; a repair that was killed may have put it aside.
    if not _is_aside(path, broken_path(path)):
        link_or_copy(path, free_place(broken_path(path), path))
    write_container(path, {path: list(records)}, records, _lists(path, records))
    return records


def _rewrite_shards(files: Files, indexed: dict[str, int], *, lost: bool) -> dict[str, VideoRecord]:
    """Write unsound shards anew under new numbers, then the master; the old ones are left over."""
    reports = dict(sorted(_shard_reports(files, lost=lost).items()))
    records: dict[str, VideoRecord] = {}
    shards: dict[str, int] = {}
    for number, report in reports.items():
        for video_id, record in report.records.items():
            # Of two shards, the one that the master names, or else the newer.
            if video_id not in records or indexed.get(video_id, number) == number:
                records[video_id], shards[video_id] = record, number
    plan = PackPlan(changed=True, sharded=True, files=tuple(_planned(files, reports, shards)))
    records = dict(sorted(records.items()))
    carry_out(plan, files, records, _lists(files.store_path, records))
    return records


def _planned(files: Files, reports: dict[int, FileReport], shards: dict[str, int]) -> Iterator[PlannedFile]:
    following = files.next_shard
    for number, report in reports.items():
        stay = [video_id for video_id in report.records if shards[video_id] == number]
        sources = {files.shard_path(number): stay}
        if stay and report.sound:
            yield PlannedFile(action="kept", number=number, sources=sources)
        elif stay:
            yield PlannedFile(action="rewritten", number=following, sources=sources)
            following += 1


def _shard_reports(files: Files, *, lost: bool) -> dict[int, FileReport]:
    reports = {}
    for shard in files.table:
        path = files.shards / shard.name
        if lost and path in files.missing:
            continue
        report, problems = check_shard(path, shard)
        if report is not None:
            reports[shard.number] = dataclasses.replace(report, problems=(*report.problems, *problems))
    for path in files.pending:
        with contextlib.suppress(StoreFormatError, StoreCorruptError):  # nothing of it can be kept
            reports[shard_number(path.name)] = check_file(path)
    return reports


def _indexed(path: Path) -> dict[str, int]:
    """Return the ids of the index and their shards; none if it cannot be read."""
    try:
        with open_file(path, recovers=True) as file, checked_hdf5.contained(path):
            return index.read_index(file)[1]
    except StoreUnreadableError:
        raise
    except StoreError:
        return {}


def _lists(path: Path, records: dict[str, VideoRecord]) -> Lists:
    """Return the store's options and, as far as they can be read, its labels and failures."""
    failures: tuple[Failure, ...] = ()
    with open_file(path, recovers=True) as file:
        metadata = file.metadata
        with noted([], str(path)):  # failures return when they fail again
            failures = index.read_failures(file)
    in_use = tuple(sorted({record.label for record in records.values() if record.label}))
    return Lists(options=metadata.options, labels=metadata.labels or in_use, failures=failures)
