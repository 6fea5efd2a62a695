"""Middlebury's .flo files: one flow field in float32.

A tag, width and height as int32, then u and v of each pixel row by row, all little-endian; the
tag is the float 202021.25, whose bytes spell PIEH. Pixels without a known flow hold values beyond
1e9, which are NaN here.

Source: Baker, Scharstein, Lewis, Roth, Black, Szeliski, "A Database and Evaluation Methodology for
Optical Flow", IJCV 92, 2011, and the format notes of its evaluation site.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path

import numpy as np

from flowkit import atomic
from flowkit.errors import InputError, InvalidParameterError
from flowkit.flow_files.arrays import KNOWN_PX, mark_unknown
from flowkit.jpeg import MOST_PIXELS
from flowkit.typing import Flow
from flowkit.validate import check_array

SUFFIX = ".flo"

_TAG = b"PIEH"
_HEADER = struct.Struct("<4sii")
_UNKNOWN = np.float32(1e10)
_MAX_SIDE = 99_999  # the format's own limit, as its reference reader has it


def read_flo(path: Path | str) -> Flow:
    """Read one flow field.

    Returns
    -------
    float32 array (2, H, W)
        u (to the right), then v (down), px; NaN in both where the flow is unknown.

    Raises
    ------
    InputError
        The file is no .flo, no regular file, or not as long as its header says.
    OSError
        It cannot be read.
    """
    path = Path(path)
    about = path.stat()
    # A pipe or a device may never end.
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: no regular file, so no .flo file")
    with path.open("rb") as stream:
        head = stream.read(_HEADER.size)
        _check_header(head, about.st_size, str(path))
        return parse_flo(head + stream.read(about.st_size - len(head)), name=str(path))


def parse_flo(data: bytes, *, name: str = "these bytes") -> Flow:
    """Return the flow that a .flo file of these bytes holds; `name` is for messages.

    Raises
    ------
    InputError
        They are no .flo, or not as many as their header says.
    """
    width, height = _check_header(data, len(data), name)
    pixels = np.frombuffer(data, "<f4", offset=_HEADER.size).reshape(height, width, 2)
    flow = np.array(pixels.transpose(2, 0, 1), np.float32, order="C")
    mark_unknown(flow)
    return flow


def _check_header(data: bytes, size: int, name: str) -> tuple[int, int]:
    """Return (width, height) of a file of `size` bytes that begins with these, or raise InputError."""
    if len(data) < _HEADER.size or data[:4] != _TAG:
        raise InputError(f"{name}: not a .flo file, expected the tag PIEH first, got {data[:4]!r}")
    _, width, height = _HEADER.unpack_from(data)
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE and width * height <= MOST_PIXELS):
        raise InputError(
            f"{name}: a .flo of {width} x {height} px, expected 1 to {_MAX_SIDE} a side and at most "
            f"{MOST_PIXELS} together"
        )
    expected = _HEADER.size + 8 * width * height
    if size != expected:
        raise InputError(
            f"{name}: {size} bytes, expected {expected} for {width} x {height} px; copy it again"
        )
    return width, height


def flo_bytes(flow: Flow) -> bytes:
    """Return the bytes of a .flo file.

    Parameters
    ----------
    flow
        float32 (2, H, W), px; a pixel with NaN in u or v is stored as unknown.

    Raises
    ------
    InvalidParameterError
        Another shape or dtype, an empty field, or a component that is infinite or beyond 1e9.
    """
    check_array("flow", flow, (2, "H", "W"), dtype=np.float32, allow_empty=False)
    unknown = np.isnan(flow).any(axis=0)
    if np.any(np.abs(flow[:, ~unknown]) > KNOWN_PX):
        raise InvalidParameterError(
            f"flow must be within +-{KNOWN_PX:g} px for a .flo file, which takes more as unknown"
        )
    known = np.where(unknown, _UNKNOWN, flow)
    height, width = unknown.shape
    return _HEADER.pack(_TAG, width, height) + known.transpose(1, 2, 0).astype("<f4").tobytes()


def write_flo(path: Path | str, flow: Flow) -> None:
    """Write one flow field, float32 (2, H, W), px; see `flo_bytes`.

    The file appears whole or not at all.

    Raises
    ------
    InvalidParameterError
        As `flo_bytes`.
    OSError
        The file cannot be written.
    """
    # Written by thousands: a sync for each would take longer than to compute the flow again.
    atomic.write_bytes(Path(path), flo_bytes(flow), durable=False)
