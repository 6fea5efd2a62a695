"""Check a store: the checksums of every byte, or all of it decoded."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np

from flowkit.errors import (
    InvalidParameterError,
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreNotFoundError,
    StoreUnreadableError,
)
from flowkit.executor import Executor, LocalExecutor
from flowkit.store import checked_hdf5, index
from flowkit.store.inventory import Shard, read_shard_table, shard_name
from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import shards_path
from flowkit.store.schema import SHARD_TABLE
from flowkit.store.tools.check_file import FileReport, check_file
from flowkit.store.tools.checksums import check_checksums
from flowkit.store.tools.file_text import head_problems
from flowkit.store.write.pack import file_sha256
from flowkit.validate import check_integer

SMALL_BYTES = 32 << 20
"""Decoded in this process: starting others takes longer."""

Problems = dict[str, tuple[str, ...]]
Digest: TypeAlias = tuple[int, str]
"""Size in bytes and SHA-256."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """Findings of `verify`.

    Attributes
    ----------
    n_videos, n_frames, n_flow
        Numbers of the store, of sound videos the latter two; `n_flow` counts fields of every name.
    n_checked, n_decoded
        Videos of which every chunk was read and compared with its checksum; of these, those that were
        decoded too.
    videos
        Problems of each unsound video.
    store
        Problems of the store's files that concern no single video.
    unreadable
        Why files are not there, or cannot be read now: of their videos nothing is known.
    """

    n_videos: int
    n_frames: int
    n_flow: int
    n_checked: int
    n_decoded: int
    videos: Mapping[str, tuple[str, ...]]
    store: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """True if all that was read is without a problem, and every file was read."""
        return not self.videos and not self.store and not self.unreadable


def verify(
    path: Path | str,
    *,
    deep: bool = False,
    sample: float | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> VerifyReport:
    """Check a store.

    By default every byte is read and compared with a checksum: chunks, tables, HDF5's own structures; shards
    with their SHA-256. Counts and scales are compared too. What has no checksum that holds (files of format
    1.0, or written anew by another program) is decoded, and so is what differs from its checksum, to say
    what is wrong with it.

    Parameters
    ----------
    path
        The store's file.
    deep
        Also decode each chunk and frame, and compare the index with the videos' groups: that what was written
        fits together, not only that it has stayed as it was.
    sample
        Read, and with `deep` decode, the chunks of this fraction of the videos of each file, drawn anew each
        time, (0, 1]; None is all. What is outside the chunks is read in any case.
    jobs
        Threads that read, or processes that decode, >= 1; None is one a core.
    executor
        Decodes instead of `jobs` processes.
    on_progress
        Called with the fraction that is done, (0, 1], now and then.

    Raises
    ------
    StoreNotFoundError, StoreFormatError, StoreCorruptError
        The store's file cannot be opened at all.
    StoreUnreadableError
        The system does not let the store's file be read now.
    InvalidParameterError
        `sample` or `jobs` is out of range.
    """
    path = Path(path)
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    check_integer("jobs", jobs, 1)
    if sample is not None and not 0 < sample <= 1:
        raise InvalidParameterError(
            f"sample must be a fraction in (0, 1], got {sample:g}; 0.01 is one in 100"
        )
    with open_file(path, recovers=True) as head, checked_hdf5.contained(path):
        is_master = SHARD_TABLE in head
        shards = read_shard_table(head)[0] if is_master else ()
    checks = Checks(deep=deep, sample=sample, jobs=jobs, executor=executor)
    if is_master:
        return _verify_master(path, shards, checks, on_progress)
    report = checks.of_file(path, on_progress)
    return _summed([report], report.videos, report.problems)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """Options of the check of a file; `verify` explains them."""

    deep: bool = True
    sample: float | None = None
    jobs: int = 1
    executor: Executor | None = None

    def of_file(
        self, path: Path, on_progress: Callable[[float], None] = lambda _: None, *, proven: bool = False
    ) -> FileReport:
        """Check one file of videos.

        Parameters
        ----------
        path
            The file.
        on_progress
            Receives the fraction of the file that is done.
        proven
            Its bytes are known to be as written: unless all is decoded, only its records are read.

        Raises
        ------
        StoreError
            As `check_file`.
        """
        if not self.deep:
            # Decoding says what is wrong with a file whose tables are malformed under a checksum that holds.
            with contextlib.suppress(StoreFormatError, StoreCorruptError):
                found = self._by_checksums(path, on_progress, proven=proven)
                if found is not None:
                    return found
        return self._decoded(path, on_progress, only=self._drawn)

    def _by_checksums(
        self, path: Path, on_progress: Callable[[float], None], *, proven: bool
    ) -> FileReport | None:
        only = (lambda _: ()) if proven else self._drawn
        found = check_checksums(path, only=only, threads=self.jobs, on_progress=on_progress)
        if found is None:
            return None
        n_checked = len(found.records) if proven else found.n_checked
        if not found.suspects:
            n_flow = sum(one.n_flow for one in found.records.values()) * found.n_fields
            return FileReport(
                records=found.records, videos={}, problems=(), n_flow=n_flow, n_checked=n_checked, n_decoded=0
            )
        report = self._decoded(path, on_progress, only=lambda _: found.suspects)
        # Their bytes were wrong when they were read first.
        why = ("its bytes differ from their checksums",)
        unclear = {k: why for k in sorted(found.suspects - report.videos.keys())}
        return dataclasses.replace(
            report,
            records={k: one for k, one in report.records.items() if k not in unclear},
            videos={**report.videos, **unclear},
            n_checked=n_checked,
        )

    def _decoded(
        self,
        path: Path,
        on_progress: Callable[[float], None],
        *,
        only: Callable[[Collection[str]], Collection[str]],
    ) -> FileReport:
        with contextlib.ExitStack() as stack:
            executor = self.executor
            if executor is None and self.jobs > 1 and path.stat().st_size > SMALL_BYTES:
                executor = stack.enter_context(LocalExecutor(self.jobs))
            return check_file(path, executor=executor, only=only, on_progress=on_progress)

    def _drawn(self, ids: Collection[str]) -> Collection[str]:
        """Return the ids to check: all, or some of them by chance, one at least."""
        if self.sample is None:
            return ids
        count = min(len(ids), max(1, round(self.sample * len(ids))))
        return set(np.random.default_rng().choice(np.array(list(ids), object), count, replace=False))


def _verify_master(
    path: Path, shards: Sequence[Shard], checks: Checks, on_progress: Callable[[float], None]
) -> VerifyReport:
    problems: list[str] = []
    unreadable: dict[int, str] = {}
    reports: dict[int, FileReport] = {}
    files = [shards_path(path) / shard.name for shard in shards]
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(checks.jobs)
        stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C does not wait for all of them
        digests = [None if checks.sample else pool.submit(_digest, file) for file in files]
        for k, (shard, file, digest) in enumerate(zip(shards, files, digests, strict=True)):
            try:
                report, broken = check_shard(
                    file,
                    shard,
                    checks,
                    digest=digest.result if digest else None,
                    on_progress=lambda part, k=k: on_progress((k + part) / len(shards)),  # type: ignore[misc]
                )
            except (StoreNotFoundError, StoreUnreadableError) as error:
                unreadable[shard.number] = f"shard {shard.name}: {error}"
                continue
            problems += broken
            if report is not None:
                reports[shard.number] = report
            on_progress((k + 1) / len(shards))
    videos: Problems = {}
    for report in reports.values():
        videos |= report.videos
        problems += report.problems
    try:
        with open_file(path, recovers=True) as head, checked_hdf5.contained(path):
            problems += head_problems(head)
            found = _check_master(head, reports, unreadable.keys())
            videos |= {k: v for k, v in found.items() if k not in videos}
    except StoreUnreadableError:
        raise
    except StoreError as error:
        problems.append(str(error))
    return _summed(list(reports.values()), videos, problems, tuple(unreadable.values()))


DEEP = Checks()


def check_shard(
    path: Path,
    shard: Shard,
    checks: Checks = DEEP,
    *,
    digest: Callable[[], Digest] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> tuple[FileReport | None, list[str]]:
    """Return the findings in a shard (None: damaged as a whole), and problems of its digest.

    Parameters
    ----------
    path
        The shard.
    shard
        Its row of the master's table.
    checks
        What is checked.
    digest
        Returns its size and SHA-256; None measures them here.
    on_progress
        Receives the fraction of it that is done.

    Raises
    ------
    StoreNotFoundError, StoreUnreadableError
        It is not there, or cannot be read now; it may be sound.
    """
    if checks.sample is not None:
        return _report_or_problem(path, shard, checks, on_progress, proven=False)
    try:
        found = _digest(path) if digest is None else digest()
    except (StoreNotFoundError, StoreUnreadableError):
        raise
    except StoreError as error:
        return None, [f"shard {shard.name}: {error}"]
    as_written = found == (shard.bytes, shard.sha256)
    report, problems = _report_or_problem(path, shard, checks, on_progress, proven=as_written)
    if report is not None and not as_written:
        problems.append(f"shard {shard.name} has another SHA-256 or size than in the master's table")
    return report, problems


def _report_or_problem(
    path: Path, shard: Shard, checks: Checks, on_progress: Callable[[float], None], *, proven: bool
) -> tuple[FileReport | None, list[str]]:
    try:
        return checks.of_file(path, on_progress, proven=proven), []
    except (StoreNotFoundError, StoreUnreadableError):
        raise
    except StoreError as error:
        return None, [f"shard {shard.name}: {error}"]


def _digest(path: Path) -> Digest:
    with checked_hdf5.contained(path):
        if not path.exists():
            raise StoreNotFoundError(f"there is no store at {path}")
        return path.stat().st_size, file_sha256(path)


def _check_master(
    head: h5py.File, reports: Mapping[int, FileReport], unreadable: Collection[int]
) -> Problems:
    """Return the problems of videos whose row or link in the master does not fit their shard."""
    records, shards = index.read_index(head)
    found: Problems = {}
    for video_id, record in records.items():
        report = reports.get(shards[video_id])
        if shards[video_id] in unreadable:
            continue
        if report is None or video_id not in report.records:
            found[video_id] = (f"missing or unsound in shard {shard_name(shards[video_id])}",)
        elif report.records[video_id] != record:
            found[video_id] = ("its row in the master's index differs from its shard",)
        else:
            try:
                checked_hdf5.check_link(head, video_id, Path(shard_name(shards[video_id])))
            except StoreError as error:
                found[video_id] = (str(error),)
    strays = {k for report in reports.values() for k in report.records} - records.keys()
    return found | dict.fromkeys(sorted(strays), ("in a shard, but not in the master's index",))


def _summed(
    reports: Sequence[FileReport],
    videos: Mapping[str, tuple[str, ...]],
    problems: Sequence[str],
    unreadable: tuple[str, ...] = (),
) -> VerifyReport:
    records = [record for report in reports for record in report.records.values()]
    return VerifyReport(
        n_videos=sum(len(report.records) + len(report.videos) for report in reports),
        n_frames=sum(record.n_frames for record in records),
        n_flow=sum(report.n_flow for report in reports),
        n_checked=sum(report.n_checked for report in reports),
        n_decoded=sum(report.n_decoded for report in reports),
        videos=videos,
        store=tuple(problems),
        unreadable=unreadable,
    )
