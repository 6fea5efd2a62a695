"""Picture files, read and written by OpenCV."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from flowkit.errors import InputError, InvalidParameterError
from flowkit.typing import UInt8

_NAME_BYTES = 180


def read_rgb(path: Path | str) -> UInt8:
    """Read a picture as uint8 (H, W, 3) RGB; whatever depth it has becomes 8 bits.

    Raises
    ------
    InputError
        The file is no picture that OpenCV knows.
    OSError
        It cannot be read.
    """
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise InputError(f"{path}: not a picture that can be read; give a PNG or JPEG, say")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def write_picture(path: Path | str, rgb: UInt8) -> None:
    """Write uint8 (H, W, 3) RGB as the kind of file that the suffix says, `.png` mostly.

    Raises
    ------
    InvalidParameterError
        OpenCV writes no such files.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    path.write_bytes(encoded(rgb, path.suffix or "none"))


def encoded(rgb: UInt8, suffix: str = ".png", settings: tuple[int, ...] = ()) -> bytes:
    """Return the bytes of a picture file.

    Parameters
    ----------
    rgb
        uint8 (H, W, 3).
    suffix
        Kind of file, such as `.png`.
    settings
        OpenCV's IMWRITE_* names and values, in turn.
    """
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(settings))
    except cv2.error:
        done = False
    if not done:
        raise InvalidParameterError(f"no pictures of suffix {suffix!r} can be written; take .png")
    return data.tobytes()


def file_name(video_id: str) -> str:
    """Return a name for a file about a video: plain characters only, and short enough for any disk.

    Ids are anyone's; what this returns holds no separator and so stays in the folder it is put in.
    """
    return re.sub(r"[^\w.-]+", "_", video_id).encode()[:_NAME_BYTES].decode(errors="ignore")


def thumbnail_webp(rgb: UInt8, quality: int) -> bytes:
    """Return a small picture as WebP, a third of a JPEG's bytes at this size."""
    return encoded(rgb, ".webp", (cv2.IMWRITE_WEBP_QUALITY, quality))
