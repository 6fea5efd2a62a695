"""The work on one unit of an export in a worker process: a clip's folder, or a tar shard."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flowkit.executor import Worker
from flowkit.rawframes.clip_files import ExportedClip, ExportTally, Recipe
from flowkit.rawframes.destination import Destination, Marker, sizes_below
from flowkit.rawframes.layouts.layout import Kind
from flowkit.rawframes.lists import ListedClip
from flowkit.rawframes.tar import NO_CLASS, ShardWriter, head_fields
from flowkit.remote import Location
from flowkit.store.read.store import Store, open_store
from flowkit.store.record import Failure, VideoRecord

CLIPPED_WARNING = 0.01
"""Fraction of flow components beyond the bound above which a unit has a warning."""

_FRAMES_A_REPORT = 16
_FACTS = tuple(field.name for field in dataclasses.fields(ExportTally))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A clip of a unit: its record, and the number of its class or None."""

    record: VideoRecord
    label: int | None

    def entry(self, path: str) -> ListedClip:
        """Return the clip's entry for annotation lists; `path` is its folder below the destination."""
        record = self.record
        return ListedClip(path=path, n_frames=record.n_frames, n_flow=record.n_flow, label=self.label)

    def made_of(self) -> list[str | int]:
        """Return the values that identify the contents, apart from class and store options."""
        record, source = self.record, self.record.fingerprint
        counts = [record.n_frames, record.n_flow, record.width, record.height]
        return [source.bytes, source.mtime_ns, source.sha256, *counts, record.backend]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One clip's folder or one tar shard, written whole: its clips, and all that a worker needs.

    `name` is its path below the destination.
    """

    name: str
    members: Mapping[str, Member]
    store: Location
    destination: Path
    recipe: Recipe
    kinds: tuple[Kind, ...] | None = None
    """The kinds of files in the folder, where a clip has several folders."""

    def made_of(self) -> dict[str, Sequence[str | int | None]]:
        """Return the values that identify the unit's contents."""
        # Only a shard holds the numbers of classes, in its samples.
        tar = self.recipe.layout.in_shards
        return {
            video_id: [*member.made_of(), member.label] if tar else member.made_of()
            for video_id, member in self.members.items()
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportOutcome:
    """Outcome of one unit of a run: a clip's folder, or a tar shard.

    Attributes
    ----------
    name : str
        Its path below the destination.
    video_ids : tuple of str
        The clips in it.
    status : str
        "exported", "already_exported" or "failed".
    n_frames, n_flow : int
        Frames and flow fields written.
    clipped, values : int
        Flow components outside the bound, of how many.
    files, bytes : int
        Number of its files, and their size.
    seconds : float
        Elapsed time.
    reason, detail : str
        Of a failure: one word, and a sentence.
    """

    name: str
    video_ids: tuple[str, ...]
    status: str
    n_frames: int = 0
    n_flow: int = 0
    clipped: int = 0
    values: int = 0
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    detail: str = ""

    @property
    def clipped_fraction(self) -> float:
        """Fraction of the flow components that were clipped, in [0, 1]."""
        return self.clipped / max(1, self.values)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user, a sentence each."""
        if self.clipped_fraction <= CLIPPED_WARNING:
            return ()
        return (f"{self.clipped_fraction:.1%} of the flow is beyond the bound",)

    @property
    def failure(self) -> Failure | None:
        """The failure, where there is one."""
        if self.status != "failed":
            return None
        return Failure(source=self.name, reason=self.reason, detail=self.detail)


def failed_unit(unit: Unit, reason: str, detail: str) -> ExportOutcome:
    """Return the outcome of a failed unit."""
    return ExportOutcome(
        name=unit.name, video_ids=tuple(unit.members), status="failed", reason=reason, detail=detail
    )


def from_marker(unit: Unit, marker: Marker, status: str) -> ExportOutcome:
    """Return the outcome of a complete unit."""
    facts = {name: int(marker.facts.get(name, 0)) for name in _FACTS}
    return ExportOutcome(
        name=unit.name,
        video_ids=tuple(unit.members),
        status=status,
        n_frames=facts["n_frames"],
        n_flow=facts["n_flow"],
        clipped=facts["clipped"],
        values=facts["values"],
        files=marker.files,
        bytes=marker.bytes,
    )


def write_unit(unit: Unit, worker: Worker) -> ExportOutcome:
    """Write one unit under a temporary name, then rename it.

    Raises
    ------
    InputError
        The path exists and was not written by an export, or it leads out of the destination.
    StoreError
        The store cannot be read.
    OSError
        A file cannot be written.
    """
    began = time.perf_counter()
    destination, tally = Destination(unit.destination), ExportTally()
    on_frame = _reporter(unit, worker)
    changed = os.stat(unit.store).st_mtime_ns if isinstance(unit.store, Path) else 0
    store = _store(unit.store, changed)
    with destination.partial(unit.name) as partial:
        if unit.recipe.layout.in_shards:
            _write_shard(unit, store, tally, partial, on_frame=on_frame)
        else:
            _write_folder(unit, store, tally, partial, on_frame=on_frame)
        sizes = sizes_below(partial)
        marker = Marker(
            name=unit.name,
            made_of=unit.made_of(),
            files=len(sizes),
            bytes=sum(sizes),
            facts=dataclasses.asdict(tally),
        )
        destination.commit(unit.name, partial, marker)
    outcome = from_marker(unit, marker, "exported")
    return dataclasses.replace(outcome, seconds=time.perf_counter() - began)


@functools.lru_cache(maxsize=1)
def _store(path: Location, _: int) -> Store:
    """Open a store once a process; again if its file was replaced."""
    return open_store(path)


def _reporter(unit: Unit, worker: Worker) -> Callable[[], None]:
    """Return the function to call after each frame."""
    total = sum(member.record.n_frames for member in unit.members.values())
    done = 0

    def on_frame() -> None:
        nonlocal done
        done += 1
        if done % _FRAMES_A_REPORT == 0:
            worker.report(done, done / max(1, total))

    return on_frame


def _write_folder(
    unit: Unit, store: Store, tally: ExportTally, folder: Path, *, on_frame: Callable[[], None]
) -> None:
    folder.mkdir()
    (video_id,) = unit.members
    clip = ExportedClip(store, video_id, unit.recipe, tally, kinds=unit.kinds)
    if unit.recipe.layout.form == "npy":
        clip.write_npy(folder, on_frame)
        return
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, data in clip.files(on_frame):
            _write_file(name, data, inside)
    finally:
        os.close(inside)


def _write_file(name: str, data: bytes, folder: int) -> None:
    """Write a new file into an open folder: half the time of going through its path and a buffer."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _write_shard(
    unit: Unit, store: Store, tally: ExportTally, path: Path, *, on_frame: Callable[[], None]
) -> None:
    add = _add_streams if unit.recipe.layout.form == "streams" else _add_images
    with ShardWriter(path) as tar:
        for video_id, member in unit.members.items():
            clip = ExportedClip(store, video_id, unit.recipe, tally)
            add(tar, clip, member, _sample_facts(unit, member.record, store), on_frame)


def _add_images(
    tar: ShardWriter,
    clip: ExportedClip,
    member: Member,
    facts: Mapping[str, object],
    on_frame: Callable[[], None],
) -> None:
    """Add a sample with a field for each image."""
    video_id = member.record.video_id
    for field, data in head_fields(facts, member.label):
        tar.add(video_id, field, data)
    for name, data in clip.files(on_frame):
        tar.add(video_id, name, data)


def _add_streams(
    tar: ShardWriter,
    clip: ExportedClip,
    member: Member,
    facts: Mapping[str, object],
    on_frame: Callable[[], None],
) -> None:
    """Add a sample with a stream of all frames and one of all flow."""
    video_id = member.record.video_id
    wanted = clip.streams
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(tar.stream(name)) for name in wanted}
        for name, data in clip.images(on_frame):
            streams[name].add(data)
        offsets = {f"{name}_offset": stream.offsets for name, stream in streams.items()}
        label = NO_CLASS if member.label is None else member.label
        for field, data in head_fields({**facts, **offsets}, label):
            tar.add(video_id, field, data)
        for stream in streams.values():
            tar.add_stream(video_id, stream)


def _sample_facts(unit: Unit, record: VideoRecord, store: Store) -> dict[str, object]:
    """Return the facts of a clip that its sample's json has."""
    return {
        "id": record.video_id,
        "label": record.label,
        "n_frames": record.n_frames,
        "n_flow": record.n_flow,
        "step": store.options.step,
        "width": record.width,
        "height": record.height,
        "fps": record.fps,
        "bound_px": unit.recipe.bound_px,
    }
