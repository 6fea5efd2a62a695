"""The flow files of a folder, by field: .flo, .npy, KITTI's PNG, or pairs of images of u and v."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit import flo, jpeg, kitti
from flowkit.errors import InputError, JpegError
from flowkit.quantize import dequantize_u8
from flowkit.typing import Flow

NPY_SUFFIX = ".npy"
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
    """What a file's name says: axis (u 0, v 1, both -1), number, and denseflow's step and direction."""

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
    """Return the .npy files that hold the flow of a whole clip, by their names without suffix."""
    arrays = [name for name in names if name.lower().endswith(NPY_SUFFIX) and not name.startswith(".")]
    return {name[: -len(NPY_SUFFIX)]: folder / name for name in sorted(arrays) if _fields_in(folder / name)}


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


def _header(path: Path) -> NDArray[np.generic]:
    """Open an array without reading its values."""
    if not path.is_file():
        raise InputError(f"{path}: no regular file, so no array")
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: no array that NumPy reads without unpickling: {error}") from error
    return array


def _fields_in(path: Path) -> int | None:
    """Return the number of fields of an array of a whole clip, 0 of one field, None of anything else."""
    array = _header(path)
    if array.dtype.kind != "f" or array.ndim not in (3, 4) or 2 not in (array.shape[-3], array.shape[-1]):
        return None
    return len(array) if array.ndim == 4 else 0


def count_in(path: Path) -> int:
    """Return the number of fields in a file: of a .npy, its first axis where it has four."""
    if path.suffix.lower() != NPY_SUFFIX:
        return 1
    fields = _fields_in(path)
    if fields is None:
        raise InputError(
            f"{path}: expected flow, floats of shape (n, 2, H, W) or (2, H, W), or with the 2 last; got "
            f"{_header(path).dtype} of shape {_header(path).shape}"
        )
    return fields or 1


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
    suffix = path.suffix.lower()
    if suffix == kitti.SUFFIX:
        return kitti.read_kitti(path)
    return _read_array(path, index) if suffix == NPY_SUFFIX else flo.read_flo(path)


def _read_array(path: Path, index: int) -> Flow:
    count_in(path)
    array = _header(path)
    field = np.asarray(array[index] if array.ndim == 4 else array, np.float32)
    # (2, H, W) where both would do: it is what we write.
    field = field if field.shape[0] == 2 else field.transpose(2, 0, 1)
    return np.ascontiguousarray(field)


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
