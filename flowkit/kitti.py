"""KITTI's flow images: PNG of three channels of 16 bits, u, v and whether the pixel is known.

u = (first channel - 2^15) / 64 px, v likewise of the second; where the third is 0 the flow is unknown, NaN
here.

Source: Menze, Geiger, "Object Scene Flow for Autonomous Vehicles", CVPR 2015, and the development kit of the
KITTI flow benchmark, readme.txt.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from flowkit import jpeg
from flowkit.errors import InputError, JpegError
from flowkit.typing import Flow

SUFFIX = ".png"

_ZERO = 1 << 15
_PER_PX = 64.0
_UNCHANGED = -1  # cv2.IMREAD_UNCHANGED
# A PNG begins with its signature and the header chunk: width, height, bits of a channel, and colour type.
_HEADER = struct.Struct(">8s4x4sIIBB")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 2


def is_kitti(data: bytes) -> bool:
    """Return whether bytes begin as a PNG of three channels of 16 bits does."""
    if len(data) < _HEADER.size:
        return False
    signature, chunk, _, _, bits, colours = _HEADER.unpack_from(data)
    return (signature, chunk, bits, colours) == (_SIGNATURE, b"IHDR", 16, _COLOURS)


def is_kitti_file(path: Path) -> bool:
    """Return whether a file begins as KITTI's flow images do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return is_kitti(stream.read(_HEADER.size))


def read_kitti(path: Path | str) -> Flow:
    """Read one flow field.

    Returns
    -------
    float32 array (2, H, W)
        u (to the right), then v (down), px; NaN in both where the flow is unknown.

    Raises
    ------
    InputError
        The file is no such PNG, or damaged.
    OSError
        It cannot be read.
    """
    try:
        data = jpeg.read_file(Path(path))
        if not is_kitti(data):
            raise InputError(f"{path}: expected KITTI's flow, a PNG of three channels of 16 bits")
        image = jpeg.decode_by_opencv(data, _UNCHANGED)
    except JpegError as error:
        raise InputError(f"{path}: {error}") from error
    # OpenCV has the channels in reverse.
    flow = (image[..., :0:-1].astype(np.float32) - _ZERO) / _PER_PX
    flow[image[..., 0] == 0] = np.nan
    return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)
