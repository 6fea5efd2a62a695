"""Images: a dark canvas with text to put them on, scaling, and files of them."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from flowkit import jpeg
from flowkit.errors import InputError, InvalidParameterError, JpegError
from flowkit.typing import UInt8

Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (232, 234, 237)
FAINT: Colour = (150, 156, 166)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT_PX = 21.0  # of that font at scale 1
_NAME_BYTES = 180


def blank(height: int, width: int) -> UInt8:
    """Return an empty canvas, uint8 (height, width, 3) RGB.

    Raises
    ------
    InvalidParameterError
        It would have more than `jpeg.MOST_PIXELS`: of a video much higher than wide, mostly.
    """
    if height * width > jpeg.MOST_PIXELS:
        raise InvalidParameterError(
            f"the image would be {width}x{height} px, expected at most {jpeg.MOST_PIXELS} px: take a smaller "
            "--width, or fewer --columns"
        )
    return np.full((height, width, 3), PAPER, np.uint8)


def paste(canvas: UInt8, image: UInt8, x: int, y: int) -> None:
    """Put an image on the canvas, its upper left corner at (x, y)."""
    height, width = image.shape[:2]
    canvas[y : y + height, x : x + width] = image


def fit(image: UInt8, width: int, height: int) -> UInt8:
    """Scale an image, uint8 (H, W, 3), to `width` x `height` px, those of a canvas that `blank` gave."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def write_text(
    canvas: UInt8,
    text: str,
    at: tuple[int, int],
    *,
    size: int = 9,
    colour: Colour = INK,
    right: bool = False,
) -> None:
    """Write one line of text.

    Parameters
    ----------
    text
        Text; what the font lacks (it knows ASCII only) becomes `?`.
    at
        x and y of the baseline's left end, or of its right end with `right`.
    size
        Height of a capital letter, px.
    """
    plain = text.encode("ascii", "replace").decode()
    x, y = at
    x -= text_width(plain, size=size) if right else 0
    cv2.putText(canvas, plain, (x, y), _FONT, size / _CAP_HEIGHT_PX, colour, 1, cv2.LINE_AA)


def text_width(text: str, *, size: int = 9) -> int:
    """Return the width of a line of text, px."""
    return int(cv2.getTextSize(text, _FONT, size / _CAP_HEIGHT_PX, 1)[0][0])


def shortened(text: str, width: int, *, size: int = 9) -> str:
    """Return the text, its middle cut out until it fits `width` px."""
    kept = len(text)
    cut = text
    while kept > 4 and text_width(cut, size=size) > width:
        kept -= 1
        cut = f"{text[: (kept - 3) // 2]}...{text[len(text) - (kept - 3 - (kept - 3) // 2) :]}"
    return cut


def read_rgb(path: Path | str) -> UInt8:
    """Read an image as uint8 (H, W, 3) RGB; whatever depth it has becomes 8 bits.

    Raises
    ------
    InputError
        The file is no image that OpenCV knows, no regular file, or too large.
    OSError
        It cannot be read.
    """
    try:
        data = jpeg.read_file(Path(path))
        if jpeg.is_jpeg(data):
            jpeg.size(data)
        bgr = jpeg.decode_by_opencv(data, cv2.IMREAD_COLOR)
    except JpegError as error:
        raise InputError(f"{path}: not an image that can be read, give a PNG or JPEG: {error}") from error
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def write_image(path: Path | str, rgb: UInt8) -> None:
    """Write uint8 (H, W, 3) RGB in the format of the suffix, mostly `.png`.

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
    """Return the bytes of an image file.

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
        raise InvalidParameterError(f"images of suffix {suffix!r} cannot be written; take .png")
    return data.tobytes()


def file_name(video_id: str) -> str:
    """Return a file name for a video: plain characters only, and short enough for any disk.

    Ids may hold anything; the name has no separator and so stays in its folder.
    """
    return re.sub(r"[^\w.-]+", "_", video_id).encode()[:_NAME_BYTES].decode(errors="ignore")


def thumbnail_webp(rgb: UInt8, quality: int) -> bytes:
    """Return a small image as WebP, a third of a JPEG's bytes at this size."""
    return encoded(rgb, ".webp", (cv2.IMWRITE_WEBP_QUALITY, quality))
