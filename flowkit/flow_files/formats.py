"""Files of one flow field, by their suffix: .flo, KITTI's PNG, and .npy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from flowkit.errors import InputError
from flowkit.flow_files import flo, kitti
from flowkit.flow_files.arrays import NPY_SUFFIX, FlowArray, npy_bytes, open_flow, parse_npy
from flowkit.typing import Flow


class FieldFormat(NamedTuple):
    """A format: flow is float32 (2, H, W), px, NaN in u and v where it is unknown."""

    read: Callable[[Path], Flow]
    """Read a file; raises InputError where it is not of the format, OSError where it cannot be read."""
    parse: Callable[[bytes, str], Flow]
    """Return the flow in a file's bytes; the name is for messages. Raises InputError likewise."""
    to_bytes: Callable[[Flow], bytes]
    """Return the bytes of a file; raises InvalidParameterError for flow beyond the format's range."""


def _only_field(array: FlowArray, name: str) -> Flow:
    if array.count > 1:
        raise InputError(f"{name}: {array.count} fields, expected one, (2, H, W) or (H, W, 2)")
    return array.field()


FORMATS: Mapping[str, FieldFormat] = {
    flo.SUFFIX: FieldFormat(flo.read_flo, lambda data, name: flo.parse_flo(data, name=name), flo.flo_bytes),
    kitti.SUFFIX: FieldFormat(
        kitti.read_kitti, lambda data, name: kitti.parse_kitti(data, name=name), kitti.kitti_bytes
    ),
    NPY_SUFFIX: FieldFormat(
        lambda path: _only_field(open_flow(path), str(path)),
        lambda data, name: _only_field(parse_npy(data, name=name), name),
        npy_bytes,
    ),
}
"""The formats by suffix, in lower case."""


def format_of(name: str) -> FieldFormat | None:
    """Return the format that a file name's suffix stands for, or None."""
    return FORMATS.get(Path(name).suffix.lower())
