"""The flow files of a folder, by field: .flo, arrays, KITTI's PNG, or pairs of images of u and v."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import InputError, JpegError
from flowkit.flow_files import flo, kitti
from flowkit.flow_files.arrays import (
    ARRAY_SUFFIXES,
    NPY_SUFFIX,
    OtherArraysError,
    is_flow,
    open_array,
    open_flow,
)
from flowkit.flow_files.formats import FORMATS
from flowkit.quantize import dequantize_u8
from flowkit.typing import Flow

CLIP_STEM = "flow"
"""The name, without suffix, of an array whose folder is the clip; one of another name is a clip by itself."""
FieldFiles: TypeAlias = tuple[Path, ...]
"""The file of a field, or those of u and v."""

_WHOLE = -1
_NUMBER = re.compile(r"(\d+)\D*\Z")
# 000012_10 of KITTI: the scene, and the frame that the flow leads from.
_KITTI_NUMBER = re.compile(r"(\d{6})_1[01]")
# flow_x_00001.jpg of TSN and denseflow, flow_x_p3_00000.jpg and flow_x_m1_00001.jpg of denseflow's other
# steps and of backward flow, x_00001.jpg of mmaction2's loader; u, v of others.
_PLANE = re.compile(
    r"(?:flow_)?([xyuv])_?(?:([pm])(\d+)_)?(\d+)\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE
)
_AXES = {"x": 0, "u": 0, "y": 1, "v": 1}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Name:
    """Parts of a file's name: axis (u 0, v 1, both -1), number, and denseflow's step and direction."""

    axis: int
    number: int
    step: int | None = None
    backward: bool = False


def fields_of(
    folder: Path, names: Iterable[str], *, backward: bool = False, step: int | None = None
) -> list[FieldFiles]:
    """Return the files of each field in a folder, in order; empty where it holds no numbered flow.

    Parameters
    ----------
    folder, names
        The folder and the names of its files.
    backward
        Take the files of backward flow where names say which they are.
    step
        Take the files of this step where names say it.

    Raises
    ------
    InputError
        Numbers are left out or double, or names have several steps.
    """
    found = {name: parsed for name in names if (parsed := _parsed(folder, name)) is not None}
    chosen = _of_one_step(folder, _of_direction(folder, found, backward=backward), step)
    fields: dict[int, dict[int, Path]] = {}
    for name, parsed in chosen.items():
        field = fields.setdefault(parsed.number, {})
        if parsed.axis in field:
            raise InputError(f"{folder}: {field[parsed.axis].name} and {name} are one field; remove one")
        field[parsed.axis] = folder / name
    if not fields:
        return []
    first = min(fields)
    for number in range(first, first + len(fields)):
        # All whole, or all pairs: a folder with both has numbers with three files, or halves.
        if set(fields.get(number, ())) not in ({_WHOLE}, {0, 1}):
            raise InputError(
                f"{folder}: field number {number} is missing or half there; numbers start at {first}"
            )
    return [tuple(path for _, path in sorted(fields[number].items())) for number in sorted(fields)]


def clip_arrays(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the arrays that hold the flow of a whole clip, by their names without suffix.

    Raises
    ------
    InputError
        One is no array that is read, or two have one name.
    """
    found: dict[str, Path] = {}
    for name in sorted(names):
        path = folder / name
        if not is_array_name(name) or not is_clip_array(path):
            continue
        if (other := found.setdefault(path.stem, path)) != path:
            raise InputError(f"{folder}: {other.name} and {name} are both flow of {path.stem}; remove one")
    return found


def is_clip_array(path: Path) -> bool:
    """Return whether an array, .npy or .npz, holds the flow of a whole clip.

    Raises
    ------
    InputError
        It is no array that is read.
    """
    return bool(_fields_in(path))


def is_array_name(name: str) -> bool:
    """Return whether a file's name is that of an array, and not a hidden one."""
    return name.lower().endswith(ARRAY_SUFFIXES) and not name.startswith(".")


def _parsed(folder: Path, name: str) -> _Name | None:
    """Return what the name of a flow file says, or None if it is no flow."""
    if (plane := _PLANE.fullmatch(name)) is not None:
        axis, mark, step, number = plane.groups()
        return _Name(
            axis=_AXES[axis.lower()],
            number=int(number),
            step=int(step) if step else None,
            backward=(mark or "").lower() == "m",
        )
    stem, dot, suffix = name.rpartition(".")
    match = _KITTI_NUMBER.fullmatch(stem) or _NUMBER.search(stem)
    if match is None or name.startswith(".") or not _is_whole(folder / name, f"{dot}{suffix.lower()}"):
        return None
    return _Name(axis=_WHOLE, number=int(match[1]))


def _is_whole(path: Path, suffix: str) -> bool:
    """Return whether a file holds one field of flow."""
    if suffix == flo.SUFFIX:
        return True
    if suffix == kitti.SUFFIX:
        return kitti.is_kitti_file(path)
    return suffix == NPY_SUFFIX and _fields_in(path) == 0


def _fields_in(path: Path) -> int | None:
    """Return the number of fields of an array of a whole clip, 0 of one field, None of anything else."""
    try:
        array = open_array(path, "flow")
    except OtherArraysError:
        return None
    if not is_flow(array):
        return None
    return array.shape[0] if len(array.shape) == 4 else 0


def _of_direction(folder: Path, found: dict[str, _Name], *, backward: bool) -> dict[str, _Name]:
    """Return the files of one direction; those whose names do not say it are forward, or all there is."""
    marked = {name: parsed for name, parsed in found.items() if parsed.backward}
    if backward:
        return marked or found
    if marked and len(marked) == len(found):
        raise InputError(
            f"{folder}: backward flow alone, such as {min(marked)}; --field flow_backward compares it"
        )
    return {name: parsed for name, parsed in found.items() if not parsed.backward}


def _of_one_step(folder: Path, found: dict[str, _Name], step: int | None) -> dict[str, _Name]:
    """Return the files of one step; names without a step are of step 1."""
    steps = {parsed.step or 1 for parsed in found.values() if parsed.axis != _WHOLE}
    if step is not None and step in steps:
        steps = {step}
    if len(steps) > 1:
        shown = ", ".join(map(str, sorted(steps)))
        raise InputError(f"{folder}: flow of several steps, {shown}; choose one with --step")
    return {name: p for name, p in found.items() if p.axis == _WHOLE or (p.step or 1) in steps}


def count_in(path: Path) -> int:
    """Return the number of fields in a file: of an array, its first axis where it has four."""
    return open_flow(path).count if path.suffix.lower() in ARRAY_SUFFIXES else 1


def read_field(files: FieldFiles, index: int = 0, *, bound_px: float) -> Flow:
    """Read one field, float32 (2, H, W), px; NaN where unknown.

    Parameters
    ----------
    files
        The file, or the images of u and v.
    index
        The field's number in an array of a whole clip.
    bound_px
        Half the range of images of u and v, px.

    Raises
    ------
    InputError
        A file is damaged, or u and v differ in size.
    """
    if len(files) > 1:
        return _read_planes(files, bound_px)
    (path,) = files
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return open_flow(path).field(index)
    return FORMATS[path.suffix.lower()].read(path)


def _read_planes(files: Sequence[Path], bound_px: float) -> Flow:
    try:
        planes = [_plane(path) for path in files]
    except JpegError as error:
        raise InputError(f"{files[0]}, {files[1].name}: {error}") from error
    if planes[0].shape != planes[1].shape:
        raise InputError(
            f"{files[0]} and {files[1].name} differ in size: {planes[0].shape}, {planes[1].shape}"
        )
    return dequantize_u8(np.stack(planes), bound_px=bound_px)


def _plane(path: Path) -> NDArray[np.uint8]:
    """Return an image of u or v; the size of a JPEG is asked for before it is decoded."""
    data = jpeg.read_file(path)
    if not jpeg.is_jpeg(data) and path.suffix.lower() not in (".jpg", ".jpeg"):
        return jpeg.decode_other(data, grey=True)
    jpeg.size(data)
    return jpeg.decode_grey(data)
