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
from flowkit.errors import InputError, InvalidParameterError, JpegError
from flowkit.typing import Flow
from flowkit.validate import check_array

SUFFIX = ".png"

_ZERO = 1 << 15
_PER_PX = 64.0
_LARGEST = (1 << 16) - 1
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
        return parse_kitti(jpeg.read_file(Path(path)), name=str(path))
    except JpegError as error:
        raise InputError(f"{path}: {error}") from error


def parse_kitti(data: bytes, *, name: str = "these bytes") -> Flow:
    """Return the flow that such a PNG's bytes hold, as `read_kitti`; `name` is for messages.

    Raises
    ------
    InputError
        They are no such PNG, or damaged.
    """
    if not is_kitti(data):
        raise InputError(f"{name}: expected KITTI's flow, a PNG of three channels of 16 bits")
    try:
        image = jpeg.decode_by_opencv(data, _UNCHANGED)
    except JpegError as error:
        raise InputError(f"{name}: {error}") from error
    if image.ndim != 3 or image.shape[2] != 3:  # a chunk of transparency gives a fourth
        raise InputError(f"{name}: expected three channels, got an image of shape {image.shape}")
    # OpenCV has the channels in reverse.
    flow = (image[..., :0:-1].astype(np.float32) - _ZERO) / _PER_PX
    flow[image[..., 0] == 0] = np.nan
    return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)


def kitti_bytes(flow: Flow) -> bytes:
    """Return the bytes of such a PNG: flow to the nearest 1/64 px.

    Parameters
    ----------
    flow
        float32 (2, H, W), px; a pixel with NaN in u or v is stored as unknown.

    Raises
    ------
    InvalidParameterError
        Another shape or dtype, an empty field, or a component beyond what 16 bits hold, -512 to 511.98 px.
    """
    check_array("flow", flow, (2, "H", "W"), dtype=np.float32, allow_empty=False)
    known = ~np.isnan(flow).any(axis=0)
    codes = np.rint(np.where(known, flow, 0) * _PER_PX) + _ZERO
    if codes.min() < 0 or codes.max() > _LARGEST:
        raise InvalidParameterError(
            f"flow must be within -{_ZERO / _PER_PX:g} and {(_LARGEST - _ZERO) / _PER_PX:g} px for KITTI's "
            f"PNG, got {np.nanmin(flow):g} to {np.nanmax(flow):g} px; .flo holds more"
        )
    codes[:, ~known] = 0
    u, v = codes.astype(np.uint16)
    return jpeg.encode_png(np.dstack([known.astype(np.uint16), v, u]))
