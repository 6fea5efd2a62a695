"""Check every stored byte against checksums, counts and index."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from flowkit.errors import (
    FlowkitError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
    StoreUnreadableError,
)
from flowkit.store import addresses, checked_hdf5, index
from flowkit.store.inventory import Shard, read_shard_table, shard_name
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.parts_folder import shards_path
from flowkit.store.read.hdf5_video import Hdf5Video
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FILE_BYTES, INDEX, SHARD_TABLE, StoreOptions, field_names
from flowkit.store.tools.file_text import head_problems, noted, read_text
from flowkit.store.write.pack import file_sha256

Problems = dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """Findings of `verify`.

    Attributes
    ----------
    n_videos, n_frames, n_flow
        Numbers checked; `n_flow` counts fields of every name.
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
    videos: Mapping[str, tuple[str, ...]]
    store: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """True if all was read, without any problem."""
        return not self.videos and not self.store and not self.unreadable


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileReport:
    """Findings in one file of videos."""

    records: Mapping[str, VideoRecord]
    """Records of the sound videos."""
    videos: Mapping[str, tuple[str, ...]]
    """Problems of the others."""
    problems: tuple[str, ...]
    """Problems of the file itself."""
    n_flow: int

    @property
    def sound(self) -> bool:
        """True if the file can stay as it is."""
        return not self.videos and not self.problems


def verify(path: Path | str, *, on_video: Callable[[str], None] = lambda _: None) -> VerifyReport:
    """Check a whole store: every chunk and frame, the index, the shards.

    Parameters
    ----------
    path
        The store's file.
    on_video
        Called with the id of each video when it is checked.

    Raises
    ------
    StoreNotFoundError, StoreFormatError, StoreCorruptError
        The store's file cannot be opened at all.
    StoreUnreadableError
        The system does not let the store's file be read now.
    """
    path = Path(path)
    with open_file(path, recovers=True) as head, checked_hdf5.contained(path):
        is_master = SHARD_TABLE in head
        shards = read_shard_table(head)[0] if is_master else ()
    if not is_master:
        report = check_file(path, on_video)
        return _summed([report], report.videos, report.problems)
    return _verify_master(path, shards, on_video)


def _verify_master(path: Path, shards: Sequence[Shard], on_video: Callable[[str], None]) -> VerifyReport:
    problems: list[str] = []
    unreadable: dict[int, str] = {}
    reports: dict[int, FileReport] = {}
    for shard in shards:
        try:
            report, broken = check_shard(shards_path(path) / shard.name, shard, on_video)
        except (StoreNotFoundError, StoreUnreadableError) as error:
            unreadable[shard.number] = f"shard {shard.name}: {error}"
            continue
        problems += broken
        if report is not None:
            reports[shard.number] = report
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


def check_shard(
    path: Path, shard: Shard, on_video: Callable[[str], None] = lambda _: None
) -> tuple[FileReport | None, list[str]]:
    """Return the findings in a shard (None: damaged as a whole), and problems of its digest.

    Raises
    ------
    StoreNotFoundError, StoreUnreadableError
        It is not there, or cannot be read now; it may be sound.
    """
    try:
        report = check_file(path, on_video)
        with checked_hdf5.contained(path):
            size, digest = path.stat().st_size, file_sha256(path)
    except (StoreNotFoundError, StoreUnreadableError):
        raise
    except StoreError as error:
        return None, [f"shard {shard.name}: {error}"]
    if (size, digest) != (shard.bytes, shard.sha256):
        return report, [f"shard {shard.name} has another SHA-256 or size than in the master's table"]
    return report, []


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
        videos=videos,
        store=tuple(problems),
        unreadable=unreadable,
    )


def check_file(path: Path, on_video: Callable[[str], None] = lambda _: None) -> FileReport:
    """Check every video of one file, and its index.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The file cannot be opened, or its options or groups cannot be read.
    StoreNotFoundError, StoreUnreadableError
        It is not there, or the system does not let it, or a part of it, be read now.
    """
    records: dict[str, VideoRecord] = {}
    with open_file(path, recovers=True) as file:
        options = file.metadata.options
        with checked_hdf5.contained(path):
            ids, strays = checked_hdf5.videos_and_strays(file)
        text = read_text(file, ids)
        videos: Problems = {name: (why,) for name, why in strays.items()}
        for video_id in ids:
            record = text.records[video_id]
            problems: tuple[str, ...]
            try:
                problems = tuple(_check_video(file, record, options))
            except StoreUnreadableError:
                raise
            except FlowkitError as error:
                problems = (str(error),)
            if problems or isinstance(record, StoreError):
                videos[video_id] = problems
            else:
                records[video_id] = record
            on_video(video_id)
        broken = list(text.problems)
        if text.indexed is not None:
            with noted(broken, str(path)):
                broken += _check_index(file, text.indexed, [*ids, *strays], has_broken=bool(videos))
    n_flow = sum(record.n_flow for record in records.values()) * len(options.fields)
    return FileReport(records=records, videos=videos, problems=tuple(broken), n_flow=n_flow)


def _check_video(file: h5py.File, record: VideoRecord | StoreError, options: StoreOptions) -> Iterator[str]:
    """Yield the problems of a video; raise for one that cannot be read at all."""
    if isinstance(record, StoreError):
        raise record
    with checked_hdf5.contained(f"{record.video_id!r} of {file.filename}"):
        video = Hdf5Video(file, record, options)
        if record.n_flow != max(0, record.n_frames - options.step):
            yield f"{record.n_flow} flow fields for {record.n_frames} frames at step {options.step}"
        if not np.all(np.isfinite(video.pts)):
            yield "a frame's time is not finite"
        for name in field_names(options):
            yield from _check_field(video, name)
        yield from _problem(lambda: _check_clipped(video), "clipped components")
        if options.frame_codec != "none":
            for k in range(record.n_frames):
                yield from _problem(lambda k=k: video.frame(k), f"frame {k}")  # type: ignore[misc]


def _check_field(video: Hdf5Video, name: str) -> Iterator[str]:
    field = video.field(name)
    if (stored := video.count_stored(name)) != video.record.n_flow:
        yield f"{name}: {stored} chunks stored, expected {video.record.n_flow}"

    def check(index: int) -> None:
        field.codec.check_codes(field.codes(index))

    for k in range(video.record.n_flow):
        yield from _problem(lambda k=k: check(k), f"{name} {k}")  # type: ignore[misc]


def _check_clipped(video: Hdf5Video) -> None:
    """Raise StoreCorruptError where the stored numbers of clipped components are not those of the record."""
    found = [video.stored_clipped(name) for name in field_names(video.options)]
    arrays = [clipped for clipped in found if clipped is not None]
    if len(arrays) < len(found):
        return
    record = video.record
    total = sum(int(clipped.sum(dtype=np.int64)) for clipped in arrays)
    components = 2 * record.width * record.height * record.n_flow * len(arrays)
    if not abs(total - record.clipped_fraction * components) < 0.5:  # its fraction is rounded; or NaN
        raise StoreCorruptError(
            f"{total} of {components}, but the record's fraction is {record.clipped_fraction:g}"
        )


def _problem(read: Callable[[], object], name: str) -> Iterator[str]:
    """Yield the reason why a chunk cannot be read, so that the others are still checked."""
    try:
        with checked_hdf5.contained(name):
            read()
    except StoreUnreadableError:
        raise
    except StoreError as error:
        yield f"{name}: {error}"


def _check_index(
    file: StoreFile, indexed: Sequence[str], found: Sequence[str], *, has_broken: bool
) -> Iterator[str]:
    """Yield the differences of the index from the groups."""
    if odd := sorted(set(indexed) ^ set(found)):
        yield f"the index of {file.filename} and its groups differ in {odd[:5]}"
    stamp = checked_hdf5.read_number(checked_hdf5.group(file, INDEX), FILE_BYTES)
    if stamp == Path(file.filename).stat().st_size and not has_broken:
        for name in addresses.wrong_addresses(file, list(indexed), file.metadata.options):
            yield f"{name} in the index of {file.filename} differs from the groups"
