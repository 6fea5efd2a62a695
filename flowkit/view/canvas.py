"""Pictures put together: a dark canvas, text and scaling."""

from __future__ import annotations

import cv2
import numpy as np

from flowkit.typing import UInt8

Colour = tuple[int, int, int]

PAPER: Colour = (22, 24, 29)
INK: Colour = (232, 234, 237)
FAINT: Colour = (150, 156, 166)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAP_HEIGHT_PX = 21.0  # of that font at scale 1


def blank(height: int, width: int) -> UInt8:
    """Return an empty canvas, uint8 (height, width, 3) RGB."""
    return np.full((height, width, 3), PAPER, np.uint8)


def paste(canvas: UInt8, picture: UInt8, x: int, y: int) -> None:
    """Put a picture on the canvas, its upper left corner at (x, y)."""
    height, width = picture.shape[:2]
    canvas[y : y + height, x : x + width] = picture


def fit(picture: UInt8, width: int, height: int) -> UInt8:
    """Scale a picture, uint8 (H, W, 3), to `width` x `height` px."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = width <= picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)


def write_text(
    canvas: UInt8,
    words: str,
    at: tuple[int, int],
    *,
    size: int = 9,
    colour: Colour = INK,
    right: bool = False,
) -> None:
    """Write one line of text.

    Parameters
    ----------
    words
        Text; what the font lacks (it knows ASCII only) becomes `?`.
    at
        x and y of the baseline's left end, or of its right end with `right`.
    size
        Height of a capital letter, px.
    """
    plain = words.encode("ascii", "replace").decode()
    x, y = at
    x -= text_width(plain, size=size) if right else 0
    cv2.putText(canvas, plain, (x, y), _FONT, size / _CAP_HEIGHT_PX, colour, 1, cv2.LINE_AA)


def text_width(words: str, *, size: int = 9) -> int:
    """Return the width of a line of text, px."""
    return int(cv2.getTextSize(words, _FONT, size / _CAP_HEIGHT_PX, 1)[0][0])


def shortened(words: str, width: int, *, size: int = 9) -> str:
    """Return text cut in its middle until it fits `width` px."""
    kept = len(words)
    text = words
    while kept > 4 and text_width(text, size=size) > width:
        kept -= 1
        text = f"{words[: (kept - 3) // 2]}...{words[len(words) - (kept - 3 - (kept - 3) // 2) :]}"
    return text
