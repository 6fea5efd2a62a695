"""Turns and mirrors that make stored images upright: all eight, by a display matrix or by EXIF.

An image is mirrored left to right first, if at all, and then turned clockwise.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flowkit.typing import UInt8
from flowkit.validate import check_choice

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

_EXIF_HEADER = b"Exif\0\0"
_EXIF_TAG = 0x0112
_EXIF_SHORT = 3
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# JPEG's markers without a length: fillers, restarts, start of image.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9), 0xFF})
_JPEG_SCAN = 0xDA
_JPEG_END = 0xD9
_JPEG_APP1 = 0xE1


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """A mirror and a turn that make an image upright.

    Attributes
    ----------
    rotation
        Degrees clockwise, after the mirror: 0, 90, 180 or 270.
    mirrored
        The image is mirrored left to right first.
    """

    rotation: int = 0
    mirrored: bool = False

    def __post_init__(self) -> None:
        check_choice("rotation", self.rotation, (0, *_TURNS))

    @property
    def sideways(self) -> bool:
        """True if width and height change places."""
        return self.rotation in (90, 270)

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of a stored image when it is upright, or of an upright one as stored."""
        return (height, width) if self.sideways else (width, height)

    def upright(self, image: UInt8) -> UInt8:
        """Return uint8 (H, W, 3) or (H, W) mirrored and turned; the image itself if neither is asked for."""
        if self.mirrored:
            image = np.asarray(cv2.flip(image, 1), np.uint8)
        if self.rotation:
            image = np.asarray(cv2.rotate(image, _TURNS[self.rotation]), np.uint8)
        return image


UPRIGHT = Orientation()

# By the numbers 1 to 8 of TIFF and EXIF; any other number says nothing.
EXIF_ORIENTATIONS = (
    UPRIGHT,
    Orientation(mirrored=True),
    Orientation(rotation=180),
    Orientation(mirrored=True, rotation=180),
    Orientation(mirrored=True, rotation=270),
    Orientation(rotation=90),
    Orientation(mirrored=True, rotation=90),
    Orientation(rotation=270),
)


def right_angle(degrees_clockwise: float) -> int:
    """Round an angle to the nearest quarter turn, in [0, 360): others would need resampling."""
    return round(degrees_clockwise / 90) * 90 % 360


def of_matrix(matrix: Sequence[float]) -> Orientation:
    """Return the orientation of a display matrix, its turn rounded to a quarter.

    Parameters
    ----------
    matrix
        The nine numbers a, b, u, c, d, v, x, y, w of QuickTime's and FFmpeg's matrix, at any scale:
        a stored point (p, q), q downwards, is shown at (a p + c q, b p + d q).
    """
    a, b, _, c, d, *_ = matrix
    size = a * d - b * c
    if size == 0 or not math.isfinite(size):
        return UPRIGHT
    # The second row is the same whether the first axis is mirrored or not.
    turn = math.degrees(math.atan2(-c, d))
    return Orientation(rotation=right_angle(turn), mirrored=size < 0)


def of_image(data: bytes) -> Orientation:
    """Return the orientation that the EXIF data of a JPEG, PNG or WebP asks for; upright without any."""
    if data[:2] == b"\xff\xd8":
        exif = _jpeg_exif(data)
    elif data[:8] == _PNG_SIGNATURE:
        exif = _chunk(data, b"eXIf", 8, ">")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        exif = _chunk(data, b"EXIF", 12, "<")
    else:
        return UPRIGHT
    number = _exif_orientation(exif.removeprefix(_EXIF_HEADER))
    return EXIF_ORIENTATIONS[number - 1] if 1 <= number <= len(EXIF_ORIENTATIONS) else UPRIGHT


def _jpeg_exif(data: bytes) -> bytes:
    """Return the contents of a JPEG's EXIF segment, b"" without one."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _BARE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : end]
        if marker == _JPEG_APP1 and segment.startswith(_EXIF_HEADER):
            return segment
        position = max(end, position + 4)
    return b""


def _chunk(data: bytes, name: bytes, start: int, order: str) -> bytes:
    """Return the first chunk of a name in a PNG or a RIFF file, b"" without one."""
    position = start
    while position + 8 <= len(data):
        if order == ">":
            size, found = struct.unpack(">I4s", data[position : position + 8])
            step = size + 12  # a checksum follows
        else:
            found, size = struct.unpack("<4sI", data[position : position + 8])
            step = 8 + size + size % 2
        if found == name:
            return data[position + 8 : position + 8 + size]
        position += step
    return b""


def _exif_orientation(tiff: bytes) -> int:
    """Return the number under EXIF's orientation tag, 0 without one."""
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 0
    try:
        (table,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, table)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, table + 2 + 12 * entry)
            if tag == _EXIF_TAG and kind == _EXIF_SHORT:
                return int(value)
    except struct.error:  # cut short
        return 0
    return 0
