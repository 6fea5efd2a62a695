"""Check every video of one file: each chunk and frame decoded, against counts, records and index."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import FlowkitError, StoreCorruptError, StoreError, StoreUnreadableError
from flowkit.executor import Executor, Worker
from flowkit.store import addresses, checked_hdf5
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.read.hdf5_video import Hdf5Video
from flowkit.store.record import VideoRecord
from flowkit.store.schema import FILE_BYTES, INDEX, StoreOptions, field_names
from flowkit.store.tools.file_text import FileText, noted, read_text

PIXELS_A_TASK = 10_000_000
"""Of frames, and as many of flow fields: a tenth of a second of decoding."""
MOST_VIDEOS_A_TASK = 64
"""Of a worker process: few enough to end together, many enough to be worth opening the file."""

Slices: TypeAlias = Mapping[str, NDArray[np.number]]
"""A video's slice of each array of the index."""


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
    n_checked: int
    """Videos of which every chunk was read and compared with its checksum."""
    n_decoded: int

    @property
    def sound(self) -> bool:
        """True if the file can stay as it is."""
        return not self.videos and not self.problems


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideosTask:
    """Videos of a file that a worker process checks."""

    path: Path
    records: tuple[VideoRecord, ...]
    rows: tuple[Slices | None, ...]
    """Of each; None where the index is not to be compared."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoFindings:
    """Findings in one video."""

    problems: tuple[str, ...]
    wrong_rows: tuple[str, ...] = ()
    """Arrays of the index that differ from the group of a video without a problem."""


def check_file(
    path: Path,
    *,
    only: Callable[[Collection[str]], Collection[str]] = lambda ids: ids,
    executor: Executor | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> FileReport:
    """Check every video of one file, and its index.

    Parameters
    ----------
    path
        The file.
    only
        Draws from the ids those whose chunks are decoded; others count as sound where their records can be
        read.
    executor
        Decodes in its workers; None: in this process.
    on_progress
        Called with the fraction of the videos that is done.

    Raises
    ------
    StoreFormatError, StoreCorruptError
        The file cannot be opened, or its options or groups cannot be read.
    StoreNotFoundError, StoreUnreadableError
        It is not there, or the system does not let it, or a part of it, be read now.
    """
    with open_file(path, recovers=True) as file:
        options = file.metadata.options
        with checked_hdf5.contained(path):
            ids, strays = checked_hdf5.videos_and_strays(file)
        text = read_text(file, ids)
        drawn = set(only(ids))
        asked = [one for k, one in text.records.items() if k in drawn and isinstance(one, VideoRecord)]
        found: dict[str, tuple[str, ...]] = {
            k: (str(one),) for k, one in text.records.items() if isinstance(one, StoreError)
        }
        rows = _index_rows(file, text, broken := list(text.problems))
        wrong: set[str] = set()
        for done, (video_id, one) in enumerate(_checked(file, path, asked, rows, executor), start=1):
            found[video_id] = one.problems
            wrong |= set(one.wrong_rows)
            on_progress(done / len(asked))
        videos = {k: found[k] for k in ids if found.get(k)}
        videos = {name: (why,) for name, why in strays.items()} | videos
        if text.indexed is not None and (odd := sorted(set(text.indexed) ^ {*ids, *strays})):
            broken.append(f"the index of {file.filename} and its groups differ in {odd[:5]}")
        if not videos:
            broken += [f"{k} in the index of {file.filename} differs from the groups" for k in sorted(wrong)]
    records = {k: one for k, one in text.records.items() if k not in videos and isinstance(one, VideoRecord)}
    n_flow = sum(record.n_flow for record in records.values()) * len(options.fields)
    return FileReport(
        records=records,
        videos=videos,
        problems=tuple(broken),
        n_flow=n_flow,
        n_checked=len(drawn),
        n_decoded=len(drawn),
    )


def _index_rows(file: StoreFile, text: FileText, broken: list[str]) -> dict[str, Slices]:
    """Return the rows of the index, where it was made for the file as it is; problems go to `broken`."""
    records = [text.records.get(k) for k in text.indexed or ()]
    sound = [one for one in records if isinstance(one, VideoRecord)]
    with noted(broken, str(file.filename)):
        if text.indexed is None or len(sound) < len(records):
            return {}
        stamp = checked_hdf5.read_number(checked_hdf5.group(file, INDEX), FILE_BYTES)
        if stamp != Path(file.filename).stat().st_size:
            return {}
        arrays = addresses.index_arrays(file, sound, file.metadata.options)
        slices = addresses.index_slices(arrays, sound, file.metadata.options)
        return {record.video_id: own for record, own in zip(sound, slices, strict=True)}
    return {}


def _checked(
    file: StoreFile,
    path: Path,
    records: Sequence[VideoRecord],
    rows: Mapping[str, Slices],
    executor: Executor | None,
) -> Iterator[tuple[str, VideoFindings]]:
    """Yield the id and the findings of each video, decoded here or by workers."""
    if executor is None:
        for record in records:
            yield record.video_id, _findings(file, record, rows.get(record.video_id))
        return

    def task_of(some: Sequence[VideoRecord]) -> VideosTask:
        own = tuple(rows.get(one.video_id) for one in some)
        return VideosTask(path=path.absolute(), records=tuple(some), rows=own)

    tasks = [task_of(some) for some in _grouped(records)]
    while tasks:
        again: list[VideosTask] = []
        for outcome in executor.run(check_videos, tasks):
            task = outcome.task
            if outcome.limit:
                raise StoreUnreadableError(f"{path}: {outcome.limit}")
            if outcome.result is not None:
                yield from outcome.result.items()
            elif len(task.records) == 1:
                why = f"the check of it failed: {outcome.died}"
                yield task.records[0].video_id, VideoFindings(problems=(why,))
            else:  # which of them it was, each alone shows
                again += [task_of([one]) for one in task.records]
        tasks = again


def _grouped(records: Sequence[VideoRecord]) -> Iterator[list[VideoRecord]]:
    """Yield the videos of each task: enough for its overhead, few enough that workers end together."""
    group: list[VideoRecord] = []
    pixels = 0
    for one in records:
        group.append(one)
        pixels += one.n_frames * one.width * one.height
        if pixels >= PIXELS_A_TASK or len(group) == MOST_VIDEOS_A_TASK:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def check_videos(task: VideosTask, _: Worker) -> dict[str, VideoFindings]:
    """Return the findings in some videos of a file, by id (in a worker process).

    Raises
    ------
    StoreNotFoundError, StoreUnreadableError
        The file is not there, or the system does not let it be read now.
    """
    with open_file(task.path, recovers=True) as file:
        both = zip(task.records, task.rows, strict=True)
        return {record.video_id: _findings(file, record, row) for record, row in both}


def _findings(file: StoreFile, record: VideoRecord, row: Slices | None) -> VideoFindings:
    options = file.metadata.options
    try:
        problems = tuple(_check_video(file, record, options))
        if problems or row is None:
            return VideoFindings(problems=problems)
        stored = addresses.stored_slices(file, record.video_id, options)
    except StoreUnreadableError:
        raise
    except FlowkitError as error:
        return VideoFindings(problems=(str(error),))
    wrong = [name for name, values in stored.items() if not np.array_equal(values, row[name])]
    return VideoFindings(problems=(), wrong_rows=tuple(wrong))


def _check_video(file: h5py.File, record: VideoRecord, options: StoreOptions) -> Iterator[str]:
    """Yield the problems of a video; raise for one that cannot be read at all."""
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
