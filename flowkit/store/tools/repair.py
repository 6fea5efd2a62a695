"""Drop unsound videos from a store, so that the next extraction redoes them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path

from flowkit.errors import StoreError
from flowkit.store import checked_hdf5, index
from flowkit.store.inventory import Files, shard_number, survey
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.tools.verify import FileReport, check_file, check_shard, verify
from flowkit.store.write.pack import Lists, carry_out, write_container
from flowkit.store.write.pack_plan import PackPlan, PlannedFile


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RepairReport:
    """Result of `repair`."""

    dropped: tuple[str, ...]
    """Ids of removed videos; of a shard that cannot be read, those of the index."""
    kept: int
    """Number of videos that remain."""
    rewritten: bool
    """True if anything was unsound."""


def repair(path: Path | str) -> RepairReport:
    """Rewrite a store without its unsound videos, and remove what killed runs left of it.

    A sound store stays as it is. New files are written under temporary names, then renamed.

    Parameters
    ----------
    path
        The store's file.

    Raises
    ------
    StoreBusyError
        Another process is writing the store.
    StoreNotFoundError, StoreFormatError, StoreCorruptError
        The store's file cannot be opened: of a single file nothing can be kept; a master may be
        removed, and the next extraction makes another from its shards.
    """
    path = Path(path)
    parts = PartsFolder(path)
    with parts.lock():
        parts.remove_dead_temporaries()
        report = verify(path)
        before = _indexed(path)
        kept: Collection[str] = before
        if not report.sound:
            files = survey(path)
            kept = _rewrite_single(files) if files.single else _rewrite_shards(files, before)
        for leftover in survey(path).leftover:
            leftover.unlink(missing_ok=True)
    dropped = (before.keys() | report.videos.keys()) - set(kept)
    return RepairReport(dropped=tuple(sorted(dropped)), kept=len(kept), rewritten=not report.sound)


def is_unfinished(path: Path | str) -> bool:
    """Return whether a run that was killed left files beside a store that `repair` removes."""
    return PartsFolder(path).is_unfinished() or bool(survey(Path(path)).leftover)


def _rewrite_single(files: Files) -> dict[str, VideoRecord]:
    path = files.store_path
    records = dict(check_file(path).records)
    write_container(path, {path: list(records)}, records, _lists(path, records))
    return records


def _rewrite_shards(files: Files, indexed: dict[str, int]) -> dict[str, VideoRecord]:
    """Write unsound shards anew under new numbers, then the master."""
    reports = dict(sorted(_shard_reports(files).items()))
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


def _shard_reports(files: Files) -> dict[int, FileReport]:
    reports = {}
    for shard in files.table:
        report, problems = check_shard(files.shards / shard.name, shard)
        if report is not None:
            reports[shard.number] = dataclasses.replace(report, problems=(*report.problems, *problems))
    for path in files.pending:
        with contextlib.suppress(StoreError):  # cannot be read: nothing of it can be kept
            reports[shard_number(path.name)] = check_file(path)
    return reports


def _indexed(path: Path) -> dict[str, int]:
    """Return the ids of the index and their shards; none if it cannot be read."""
    try:
        with checked_hdf5.open_file(path) as file, checked_hdf5.contained(path):
            return index.read_index(file)[1]
    except StoreError:
        return {}


def _lists(path: Path, records: dict[str, VideoRecord]) -> Lists:
    """Return the store's options and, as far as they can be read, its labels and failures."""
    labels = tuple(sorted({record.label for record in records.values() if record.label}))
    failures: tuple[Failure, ...] = ()
    with checked_hdf5.open_file(path) as file, checked_hdf5.contained(path):
        options = checked_hdf5.read_options(file)
        try:
            with checked_hdf5.contained(path):
                labels, failures = index.read_labels(file), index.read_failures(file)
        except StoreError:
            # The remaining records give the labels; failures return when they fail again.
            pass
    return Lists(options=options, labels=labels, failures=failures)
