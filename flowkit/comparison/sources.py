"""Sources of flow, by video and field: a store, a folder of .flo or JPEG files, one .flo file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowkit import flo, jpeg
from flowkit.errors import InputError, JpegError
from flowkit.quantize import check_bound, dequantize_u8
from flowkit.store.read.store import Store, open_store
from flowkit.typing import Flow

TSN_BOUND_PX = 20.0

_WHOLE = -1
_NUMBER = re.compile(r"(\d+)\D*\Z")
# flow_x_00001.jpg of TSN and denseflow, x_00001.jpg of mmaction2's loader; u, v of others.
_PLANE = re.compile(r"(?:flow_)?([xyuv])_?(\d+)\.jpe?g", re.IGNORECASE)
_AXES = {"x": 0, "u": 0, "y": 1, "v": 1}
_FLOW_FOLDER = ".flow"


class FlowSource(Protocol):
    """Flow fields of some videos."""

    name: str

    def ids(self) -> Collection[str]:
        """Return the names of the videos."""

    def count(self, video_id: str) -> int:
        """Return the number of fields of a video."""

    def flow(self, video_id: str, index: int) -> Flow:
        """Return one field, float32 (2, H, W), px; NaN where unknown.

        Raises
        ------
        StoreError, InputError
            It cannot be read.
        """


class StoreSource:
    """The videos of a store, by their ids."""

    def __init__(self, path: Path, *, field: str = "flow") -> None:
        self.name = str(path)
        self.store: Store = open_store(path)
        names = [one.name for one in self.store.options.fields]
        if field not in names:
            raise InputError(f"{path} has no flow field {field!r}, only {names}")
        self._field = field

    def ids(self) -> Collection[str]:
        """Return the names of the videos."""
        return self.store.keys()

    def count(self, video_id: str) -> int:
        """Return the number of fields of a video."""
        return self.store[video_id].n_flow

    def flow(self, video_id: str, index: int) -> Flow:
        """Return one field."""
        return next(self.store[video_id].iter_flow([index], field=self._field))

    def frame(self, video_id: str, index: int) -> NDArray[np.uint8] | None:
        """Return the frame that a field leads from, uint8 (H, W, 3) RGB; None where none are kept."""
        options = self.store.options
        if options.frame_codec == "none":
            return None
        return next(self.store[video_id].iter_frames([first_frame(self._field, index, options.step)]))


def first_frame(field: str, index: int, step: int) -> int:
    """Return the number of the frame that a field of a store leads from.

    `flow_backward` leads from the later frame of a pair to the earlier one, every other field onwards.
    """
    return index + step if field == "flow_backward" else index


class FolderSource:
    """Folders of numbered files: each folder that holds some is a video, by its path.

    Files are .flo, or pairs of JPEGs with x and y in their names. The first number is field 0 and
    none may be left out; an ending `.flow` of a folder's name does not belong to the id.

    Parameters
    ----------
    folder
        The folder to search, with all below it.
    bound_px
        Range of the JPEGs, px: 0 to 255 over [-bound, bound].

    Raises
    ------
    InputError
        There is no such file, or numbers are left out or double.
    """

    def __init__(self, folder: Path, *, bound_px: float = TSN_BOUND_PX) -> None:
        check_bound(bound_px)
        self.name = str(folder)
        self._bound_px = bound_px
        self._files: dict[str, list[tuple[Path, ...]]] = {}
        for below, _, names in os.walk(folder):
            if files := _fields_of(Path(below), names):
                self._files[_video_id(folder, Path(below))] = files
        if not self._files:
            raise InputError(
                f"{folder}: no flow in it; expected .flo files, or JPEGs such as flow_x_00001.jpg "
                "with flow_y_00001.jpg, in a folder for each video"
            )

    def ids(self) -> Collection[str]:
        """Return the names of the videos."""
        return self._files.keys()

    def count(self, video_id: str) -> int:
        """Return the number of fields of a video."""
        return len(self._files[video_id])

    def flow(self, video_id: str, index: int) -> Flow:
        """Return one field."""
        files = self._files[video_id][index]
        return flo.read_flo(files[0]) if len(files) == 1 else _read_planes(files, self._bound_px)


class FileSource:
    """One .flo file: a video of one field, named after the file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def ids(self) -> Collection[str]:
        """Return the name of the one video."""
        return (self._path.stem,)

    def count(self, video_id: str) -> int:
        """Return 1."""
        return 1

    def flow(self, video_id: str, index: int) -> Flow:
        """Return the field."""
        return flo.read_flo(self._path)


def open_source(path: Path | str, *, field: str = "flow", bound_px: float = TSN_BOUND_PX) -> FlowSource:
    """Open a folder, a .flo file, or else a store.

    Parameters
    ----------
    field
        Name of a store's flow field.
    bound_px
        Half the range of a folder's JPEGs, px.

    Raises
    ------
    InputError, StoreError
        There is nothing, or nothing with flow in it.
    """
    path = Path(path)
    if path.is_dir():
        return FolderSource(path, bound_px=bound_px)
    if path.suffix.lower() == flo.SUFFIX:
        return FileSource(path)
    return StoreSource(path, field=field)


def _video_id(folder: Path, below: Path) -> str:
    inside = below.relative_to(folder).as_posix()
    return folder.resolve().name if inside == "." else inside.removesuffix(_FLOW_FOLDER)


def _fields_of(folder: Path, names: list[str]) -> list[tuple[Path, ...]]:
    """Return the files of each field in a folder, in order; empty where it holds no flow."""
    fields: dict[int, dict[int, Path]] = {}
    for name in names:
        axis_number = _axis_and_number(name)
        if axis_number is None:
            continue
        axis, number = axis_number
        if axis in fields.setdefault(number, {}):
            raise InputError(f"{folder}: {fields[number][axis].name} and {name} are one field; remove one")
        fields[number][axis] = folder / name
    if not fields:
        return []
    first = min(fields)
    for number in range(first, first + len(fields)):
        # All .flo, or all pairs: a folder with both has numbers with three files, or halves.
        if set(fields.get(number, ())) not in ({_WHOLE}, {0, 1}):
            raise InputError(
                f"{folder}: field number {number} is missing or half there; numbers start at {first}"
            )
    return [tuple(path for _, path in sorted(fields[number].items())) for number in sorted(fields)]


def _axis_and_number(name: str) -> tuple[int, int] | None:
    """Return the axis (u 0, v 1, both -1) and field number of a file, or None if it is no flow."""
    if (plane := _PLANE.fullmatch(name)) is not None:
        return _AXES[plane[1].lower()], int(plane[2])
    stem, dot, suffix = name.rpartition(".")
    if f"{dot}{suffix.lower()}" == flo.SUFFIX and (match := _NUMBER.search(stem)) is not None:
        return _WHOLE, int(match[1])
    return None


def _bounded(path: Path) -> bytes:
    """Return the bytes of a JPEG, whose size was asked for first."""
    data = jpeg.read_file(path)
    jpeg.size(data)
    return data


def _read_planes(files: tuple[Path, ...], bound_px: float) -> Flow:
    try:
        planes = [jpeg.decode_grey(_bounded(path)) for path in files]
    except JpegError as error:
        raise InputError(f"{files[0]}, {files[1].name}: {error}") from error
    if planes[0].shape != planes[1].shape:
        raise InputError(
            f"{files[0]} and {files[1].name} differ in size: {planes[0].shape}, {planes[1].shape}"
        )
    return dequantize_u8(np.stack(planes), bound_px=bound_px)
