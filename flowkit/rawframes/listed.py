"""The clips of an import: all that a folder holds, or those of a list, whole or some of their frames."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flowkit.extraction.lists import ListEntry
from flowkit.extraction.sources import VideoSource, check_ids, sources_of_list
from flowkit.flow_files.folder import is_array_name
from flowkit.rawframes.array_clips import as_array, find_arrays
from flowkit.rawframes.folders import Folders, find_folders
from flowkit.rawframes.frame_files import ZIP_SUFFIX, is_zip
from flowkit.rawframes.inspection import FrameRange
from flowkit.rawframes.layouts.layout import Kind, Layout
from flowkit.rawframes.trees import find_trees, tree_source, trees_of, wanted_folders
from flowkit.store.record import encode_video_id


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A list's entry on a clip: some of its frames, or how many it has."""

    frames: FrameRange | None = None
    n_frames: int | None = None


WHOLE = Wanted()
"""A clip without a word on its frames."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The clips of an import, and what a list says of them by their ids."""

    folders: Folders
    wanted: Mapping[str, Wanted] = dataclasses.field(default_factory=dict)


def find_clips(
    root: Path,
    layouts: Sequence[Layout],
    entries: Sequence[ListEntry] | None,
    *,
    kinds: Collection[Kind],
    fps: float,
) -> Found:
    """Return the clips below a folder, or those of a list.

    Parameters
    ----------
    root : Path
        The folder; paths of the list count from it, or have it in front.
    layouts : sequence of Layout
        From `readings`.
    entries : sequence of ListEntry, optional
        The wanted clips.
    kinds : collection of str
        The kinds of files that are wanted.
    fps : float
        Frames per second, for the times of a range of frames.

    Raises
    ------
    InputError
        Two clips have one id, or one id is a folder of another.
    """
    if entries is None:
        if layouts[0].in_trees:
            return Found(folders=find_trees(root, layouts, kinds=kinds))
        found = find_arrays(root) if layouts[0].form == "npy" else find_folders(root, layouts)
        return Found(folders=found)
    sources: list[VideoSource] = []
    trees: dict[str, Mapping[Kind, Path]] = {}
    wanted: dict[str, Wanted] = {}
    for entry in entries:
        source, places = _source(root, layouts[0], below(entry, root), kinds)
        frames = None
        if entry.first_frame is not None and entry.n_frames is not None:
            frames = FrameRange(first=entry.first_frame, count=entry.n_frames)
            source = _ranged(source, frames, fps, named=entry.video_id is not None)
        sources.append(source)
        trees[source.video_id] = places
        wanted[source.video_id] = Wanted(frames=frames, n_frames=None if frames else entry.n_frames)
    return Found(folders=Folders(sources=tuple(check_ids(sources)), failures=(), trees=trees), wanted=wanted)


def is_clip(root: Path, layout: Layout, path: str) -> bool:
    """Return whether a clip that a list names exists, as a folder, a zip or in one of its trees."""
    try:
        if layout.in_trees:
            return bool(trees_of(root, layout, path, layout.templates))
        if layout.form == "npy":
            return as_array(root / path).exists()
        return (root / path).exists() or (root / f"{path}{ZIP_SUFFIX}").is_file()
    except (OSError, ValueError):  # a name too long for the system, or with a NUL
        return False


def below(entry: ListEntry, root: Path) -> ListEntry:
    """Return an entry whose path counts from `root`: TSN's lists have the folder in front."""
    path = Path(entry.path)
    inside = path.is_relative_to(root) and not (root / path).exists()
    return dataclasses.replace(entry, path=str(path.relative_to(root))) if inside else entry


def _source(
    root: Path, layout: Layout, entry: ListEntry, kinds: Collection[Kind]
) -> tuple[VideoSource, Mapping[Kind, Path]]:
    if not layout.in_trees:
        (source,) = sources_of_list([entry], root=root)
        return (_as_array(source) if layout.form == "npy" else _zipped(source)), {}
    clip = os.path.normpath(entry.path)
    places = trees_of(root, layout, clip, kinds)
    if not places:
        # It fails by itself, in the ledger.
        template = next(iter(wanted_folders(layout, kinds)))
        missing = root / template.replace("{id}", clip)
        places = dict.fromkeys(kinds, missing)
    video_id = encode_video_id(entry.video_id or clip)
    return tree_source(video_id, places, label=entry.label), places


def _zipped(source: VideoSource) -> VideoSource:
    """Return a listed clip with the path of its zip, where that is what there is of it."""
    zipped = source.path.with_name(source.path.name + ZIP_SUFFIX)
    if is_zip(source.path.name) and source.video_id.endswith(source.path.suffix):
        return dataclasses.replace(source, video_id=source.video_id[: -len(source.path.suffix)])
    if not source.path.exists() and zipped.is_file():
        return dataclasses.replace(source, path=zipped)
    return source


def _as_array(source: VideoSource) -> VideoSource:
    """Return a listed clip with the path of its array, where that is what there is of it."""
    if is_array_name(source.path.name) and source.video_id.endswith(source.path.suffix):
        return dataclasses.replace(source, video_id=source.video_id[: -len(source.path.suffix)])
    return dataclasses.replace(source, path=as_array(source.path))


def _ranged(source: VideoSource, frames: FrameRange, fps: float, *, named: bool) -> VideoSource:
    """Return a clip of some frames: with their times, and their numbers in its id unless it was given."""
    name = source.video_id if named else f"{source.video_id}_f{frames.first:06d}_{frames.stop:06d}"
    return dataclasses.replace(
        source, video_id=name, start_seconds=frames.first / fps, end_seconds=frames.stop / fps
    )
