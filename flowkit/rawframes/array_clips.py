"""Clips whose flow is an array: a folder with flow.npy or flow.npz, or an array of any other name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flowkit.errors import InputError
from flowkit.extraction.search import walk_folders
from flowkit.extraction.sources import VideoSource, check_ids
from flowkit.flow_files.arrays import ARRAY_SUFFIXES, NPZ_SUFFIX, open_flow, open_frames
from flowkit.flow_files.folder import CLIP_STEM, is_array_name, is_clip_array
from flowkit.rawframes.folders import TEXT_SUFFIXES, Folders
from flowkit.rawframes.frame_files import ArrayItem, FolderError, counted_names
from flowkit.rawframes.inspection import ClipFiles, Pairing, counted, paired
from flowkit.rawframes.layouts.arrays import NPY
from flowkit.store.record import Failure, encode_video_id

FRAMES_STEM = "frames"
EXPECTED = f"{CLIP_STEM}.npy, {CLIP_STEM}{NPZ_SUFFIX} or an array of flow for each clip"
"""The files that are looked for, for messages."""


def find_arrays(root: Path) -> Folders:
    """Return every array of a clip's flow below `root`, and the folders and arrays that look wrong.

    An id is the path below `root` of the folder with flow.npy or flow.npz, or of another array, without its
    suffix; the label is the name of the folder above. In a folder with flow.npy other arrays are no clips.

    Raises
    ------
    InputError
        Two arrays have one id, or one id is a folder of another.
    """
    unreadable: list[OSError] = []
    sources: list[VideoSource] = []
    failures: list[Failure] = []
    ignored: list[str] = []
    for folder, below, all_names in walk_folders(root, on_error=unreadable.append):
        names = counted_names(all_names)
        found, wrong = _clips_in(root, folder, names)
        sources += found
        failures += wrong
        if not found and not wrong:
            if (failure := _without_flow(folder, names, has_folders=bool(below))) is not None:
                failures.append(failure)
            elif names:
                ignored.append(f"{folder}: passed over: {counted(names)}")
    failures += [
        Failure(
            source=str(error.filename),
            reason="unreadable",
            detail=f"the folder cannot be read: {error.strerror}",
        )
        for error in unreadable
    ]
    return Folders(sources=tuple(check_ids(sources)), failures=tuple(failures), ignored=tuple(ignored))


def _clips_in(root: Path, folder: Path, names: Sequence[str]) -> tuple[list[VideoSource], list[Failure]]:
    """Return the clips of one folder, and the arrays in it that cannot be read."""
    arrays = sorted(filter(is_array_name, names))
    if any(Path(name).stem == CLIP_STEM for name in arrays):
        return [_source(root, folder)], []
    clips: list[VideoSource] = []
    failures: list[Failure] = []
    for name in arrays:
        path = folder / name
        try:
            if is_clip_array(path):
                clips.append(_source(root, path))
        except (InputError, OSError) as error:
            failures.append(Failure(source=str(path), reason="decode_error", detail=str(error)))
    return clips, failures


def _source(root: Path, path: Path) -> VideoSource:
    shown = path.relative_to(root)
    if path.is_dir():
        # Of the root the name, where nothing below it distinguishes it.
        video_id = str(shown) if shown.parts else path.resolve().name
    else:
        video_id = str(shown.with_suffix(""))
    return VideoSource(
        path=path, video_id=encode_video_id(video_id), label=encode_video_id(shown.parent.name)
    )


def _without_flow(folder: Path, names: Sequence[str], *, has_folders: bool) -> Failure | None:
    """Return the failure of a folder without a clip, or None if it needs none."""
    odd = [name for name in names if not name.lower().endswith(TEXT_SUFFIXES)]
    if has_folders or (names and not odd):
        return None
    if not names:
        return Failure(source=str(folder), reason="empty_folder", detail="the folder is empty")
    return Failure(
        source=str(folder), reason="no_flow", detail=f"no flow, expected {EXPECTED}; there are {counted(odd)}"
    )


def inspect_arrays(path: Path, *, step: int, frames: bool, pairing: Pairing = "first") -> ClipFiles:
    """Return the fields and frames of a clip's arrays.

    Parameters
    ----------
    path
        The folder with flow.npy or flow.npz and frames.npy or frames.npz, or an array of flow.
    step, frames, pairing
        As `inspection.inspect` has them.

    Raises
    ------
    FolderError
        An array is missing, there are two, it is none that is read, or the counts do not fit.
    OSError
        The folder cannot be read.
    """
    at = _array_of(path, CLIP_STEM) if path.is_dir() else path
    if at is None:
        raise FolderError("no_flow", f"{path}: no flow, expected {CLIP_STEM}.npy or {CLIP_STEM}.npz")
    try:
        flow = tuple((ArrayItem(at, index),) for index in range(open_flow(at).count))
        images_at = _array_of(path, FRAMES_STEM) if frames and path.is_dir() else None
        count = 0 if images_at is None else open_frames(images_at).shape[0]
    except InputError as error:
        raise FolderError("decode_error", str(error)) from error
    if not frames:
        return ClipFiles(frames=(), flow=flow)
    if images_at is None:
        raise FolderError(
            "no_frames",
            f"{path}: no frames, expected {FRAMES_STEM}.npy beside {CLIP_STEM}.npy; --frames none imports "
            "its flow alone",
        )
    images = [ArrayItem(images_at, index) for index in range(count)]
    return paired(images, flow, layout=NPY, step=step, pairing=pairing)


def _array_of(folder: Path, stem: str) -> Path | None:
    """Return the array of this name in a folder, of either kind."""
    names = [n for n in os.listdir(folder) if is_array_name(n) and Path(n).stem == stem]
    if len(names) > 1:
        raise FolderError("several_arrays", f"{folder}: {' and '.join(sorted(names))}; remove all but one")
    return folder / names[0] if names else None


def as_array(path: Path) -> Path:
    """Return the array that a path without its suffix stands for, if there is one; else the path."""
    named = (path.with_name(path.name + suffix) for suffix in ARRAY_SUFFIXES)
    return path if path.exists() else next((at for at in named if at.exists()), path)
