"""Sources of flow, by video and field: a store, a folder of files, one file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InputError
from flowkit.extraction.search import walk_folders
from flowkit.flow_files.arrays import NPZ_SUFFIX
from flowkit.flow_files.folder import CLIP_STEM, FieldFiles, clip_arrays, count_in, fields_of, read_field
from flowkit.flow_files.formats import FORMATS
from flowkit.quantize import check_bound
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD
from flowkit.remote import Location, RemotePath, locate
from flowkit.store.read.store import Store, open_store
from flowkit.typing import Flow

TSN_BOUND_PX = 20.0

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

    def __init__(self, path: Location, *, field: str = "flow") -> None:
        self.name = str(path) if field == "flow" else f"{path} {field}"
        self.store: Store = open_store(path)
        fields = {one.name: one for one in self.store.options.fields}
        if field not in fields:
            raise InputError(f"{path} has no flow field {field!r}, only {list(fields)}")
        self._field = field
        self.method = fields[field].summary

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
    return index + step if field == BACKWARD_FIELD else index


class FolderSource:
    """Folders of numbered files: each folder that holds some is a video, by its path.

    Files are .flo, KITTI's PNG or .npy of one field each, pairs of images with x and y in their names, or one
    .npy or .npz for all fields of a video. The first number is field 0 and none may be left out; an ending
    `.flow` of a folder's name does not belong to the id. An array of a whole video that is not called
    flow.npy or flow.npz is a video of its own.

    Parameters
    ----------
    folder
        The folder to search, with all below it.
    bound_px
        Range of the images, px: 0 to 255 over [-bound, bound].
    backward
        Take the images of backward flow where denseflow's names say which they are.
    step
        Take the images of this step where denseflow's names have several.

    Raises
    ------
    InputError
        There is no such file, or numbers are left out or double.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bound_px: float = TSN_BOUND_PX,
        backward: bool = False,
        step: int | None = None,
    ) -> None:
        check_bound(bound_px)
        self.name = str(folder)
        self._bound_px = bound_px
        self._fields: dict[str, list[FieldFiles]] = {}
        self._arrays: dict[str, Path] = {}
        for below, _, names in walk_folders(folder):
            if files := fields_of(below, names, backward=backward, step=step):
                self._fields[_video_id(folder, below)] = files
            for stem, path in clip_arrays(below, names).items():
                own = below if stem == CLIP_STEM else below / stem
                self._arrays[_video_id(folder, own)] = path
        if twice := sorted(self._fields.keys() & self._arrays.keys()):
            raise InputError(
                f"{folder}: {twice[0]} has numbered files and an array of all fields; remove one"
            )
        if not self._fields and not self._arrays:
            raise InputError(
                f"{folder}: no flow in it; expected .flo files, KITTI's PNG, .npy of floats, or images such "
                "as flow_x_00001.jpg with flow_y_00001.jpg, in a folder for each video"
            )

    def ids(self) -> Collection[str]:
        """Return the names of the videos."""
        return {**self._fields, **self._arrays}.keys()

    def count(self, video_id: str) -> int:
        """Return the number of fields of a video."""
        if video_id in self._arrays:
            return count_in(self._arrays[video_id])
        return len(self._fields[video_id])

    def flow(self, video_id: str, index: int) -> Flow:
        """Return one field."""
        if video_id in self._arrays:
            return read_field((self._arrays[video_id],), index, bound_px=self._bound_px)
        return read_field(self._fields[video_id][index], bound_px=self._bound_px)


class FileSource:
    """One .flo, array or PNG of KITTI: a video of one field, or all of an array, named after the file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def ids(self) -> Collection[str]:
        """Return the name of the one video."""
        return (self._path.stem,)

    def count(self, video_id: str) -> int:
        """Return the number of fields."""
        return count_in(self._path)

    def flow(self, video_id: str, index: int) -> Flow:
        """Return one field."""
        return read_field((self._path,), index, bound_px=TSN_BOUND_PX)


def open_source(
    path: Location | str, *, field: str = "flow", bound_px: float = TSN_BOUND_PX, step: int | None = None
) -> FlowSource:
    """Open a folder, a file of flow, or else a store, which may be at an address.

    Parameters
    ----------
    field
        Name of a store's flow field; `flow_backward` is backward flow of a folder too.
    bound_px
        Half the range of a folder's images, px.
    step
        Of a folder whose names have several steps, the one to take.

    Raises
    ------
    InputError, StoreError
        There is nothing, or nothing with flow in it.
    """
    path = locate(path)
    if isinstance(path, RemotePath):
        return StoreSource(path, field=field)
    if path.is_dir():
        return FolderSource(path, bound_px=bound_px, backward=field == BACKWARD_FIELD, step=step)
    if path.suffix.lower() in (*FORMATS, NPZ_SUFFIX):
        return FileSource(path)
    return StoreSource(path, field=field)


def _video_id(folder: Path, below: Path) -> str:
    inside = below.relative_to(folder).as_posix()
    return folder.resolve().name if inside == "." else inside.removesuffix(_FLOW_FOLDER)
