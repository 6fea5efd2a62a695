"""Test that OpenCV converted a frame: it reports success even where FFmpeg's conversion fails.

OpenCV 5 hands out the frame that its buffer held before (at first: what the memory held) for interlaced
frames and for colour matrices that FFmpeg does not convert. A second capture, opened without conversion to
RGB, gives the first plane of a frame, mostly its luma; its buffer holds another image, or is new and filled
with a level far from the frame's, so that a failed conversion leaves no true frame in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import DecodeError
from flowkit.typing import UInt8

# (red, blue) of BT.601, 709, 2020, SMPTE 240M and FCC; green is the rest.
_LUMA_WEIGHTS = ((0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593), (0.212, 0.087), (0.30, 0.11))

# Pixel formats by OpenCV's four letters: the bytes of a pixel in the first plane, the byte to take, and
# what it is: luma, or the index of blue, green or red.
_LUMA = -1
_BYTES = {
    **dict.fromkeys((b"I420", b"YV12", b"Y42B", b"Y41B", b"444P", b"YUV9", b"NV12", b"NV21"), (1, 0, _LUMA)),
    **dict.fromkeys((b"Y800", b"Y4\x0b\x08", b"Y4\x0a\x08", b"Y4\x00\x08"), (1, 0, _LUMA)),
    b"YUY2": (2, 0, _LUMA),
    b"UYVY": (2, 1, _LUMA),
    b"BGR\x18": (3, 0, 0),
    b"RGB\x18": (3, 0, 2),
    b"BGR\x00": (4, 0, 0),
    b"RGB\x00": (4, 0, 2),
    b"BGRA": (4, 0, 0),
    b"RGBA": (4, 0, 2),
    b"ABGR": (4, 1, 0),
    b"ARGB": (4, 1, 2),
}
# Above 8 bits the letters are Y3 (Y4 with alpha), the subsampling and the depth: two bytes, low first.
_DEEP_LUMA = (b"Y3", b"Y4")
_DEPTHS = (9, 10, 12, 14, 16)

# Levels within which luma and RGB of a frame that was converted agree: below 5 in all formats tried.
_TOLERANCE = 8.0
_PERCENTILE = 90

# Levels for new memory: one is far from any frame, in formats above 8 bits too (2 bytes of _DARK are 128 of 9
# bits); _BRIGHT is the median from which on a frame is held to _DARK.
_DARK, _LIGHT, _BRIGHT = 0x01, 0xFE, 160
# glibc's malloc.h, mallopt(3): it fills what it hands out with the complement of this parameter's byte.
_M_PERTURB = -6
_perturbing = threading.Lock()


# The second capture decodes again what it skips: at most so many frames for each of the video, and so many.
MOST_GRABS_PER_FRAME = 3
FREE_GRABS = 200


class ConversionCheck:
    """Notice frames that OpenCV did not convert.

    Parameters
    ----------
    name
        The file, for messages.
    open_capture
        Opens the file anew with given options.
    """

    def __init__(self, name: str, open_capture: Callable[[list[int]], cv2.VideoCapture]) -> None:
        self._name = name
        self._open = open_capture
        self._last: UInt8 | None = None
        self._repeats = 0
        self._proved = False
        self._witness: cv2.VideoCapture | None = None
        self._position = -1  # of the second capture
        self._tested: UInt8 | None = None
        self._grabs = 0

    def check(self, index: int, bgr: UInt8) -> None:
        """Take frame `index`, counted from 0, as OpenCV retrieved it; frames may be left out.

        Raises
        ------
        DecodeError
            Its conversion failed.
        """
        last, self._last = self._last, bgr
        if last is None or last.shape != bgr.shape:
            self._repeats = 0
        elif np.array_equal(bgr, last):  # a still scene, or the buffer as it was
            self._repeats += 1
        else:
            self._repeats, self._proved = 0, True
            return
        if self._repeats & (self._repeats - 1):
            return  # tested at 0, 1, 2, 4, 8, ...
        found = self._agrees(index, bgr)
        if found is False:
            raise self._error(f"frame {index}")
        self._proved = self._proved or found is True

    def finish(self) -> None:
        """Take the video's end.

        Raises
        ------
        DecodeError
            All frames are one image, and nothing shows that it is the video's.
        """
        if self._last is not None and not self._proved:
            raise self._error("any frame: all are one image")

    def close(self) -> None:
        """Close the second capture."""
        if self._witness is not None:
            self._witness.release()
            self._witness = None

    def _error(self, which: str) -> DecodeError:
        return DecodeError(
            f"{self._name}: OpenCV does not convert {which}; it converts no interlaced frames and not every "
            "colour matrix: use decoder 'av'"
        )

    def _agrees(self, index: int, bgr: UInt8) -> bool | None:
        """Return whether the first plane of a frame is that of its RGB; None where nothing can be said."""
        capture = self._at(index, bgr)
        if capture is None:
            return None
        letters = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=True)
        # It warns that the first plane comes alone.
        with quiet(), new_memory_filled(_DARK if np.median(bgr) >= _BRIGHT else _LIGHT):
            got, raw = capture.retrieve()
        if not got or raw is None or raw.dtype != np.uint8 or raw.shape[:2] != bgr.shape[:2]:
            return None
        if not raw.any() and not bgr.any():
            return None  # new memory is zero, and so may be black
        row_bytes = np.asarray(raw, np.uint8).reshape(len(raw), -1)[:, : bgr.shape[1]]
        difference = _difference(row_bytes, letters, bgr)
        return None if difference is None else difference <= _TOLERANCE

    def _at(self, index: int, bgr: UInt8) -> cv2.VideoCapture | None:
        """Return the second capture at a frame, with none or another in its buffer; None if that costs much.

        It goes on from the last frame tested where that was another image, else it begins anew.
        """
        onward = (
            self._witness is not None and self._tested is not None and not np.array_equal(bgr, self._tested)
        )
        grabs = index - self._position if onward else index + 1
        if self._grabs + grabs > MOST_GRABS_PER_FRAME * index + FREE_GRABS:
            return None
        if not onward:
            self.close()
            self._witness = self._open([cv2.CAP_PROP_CONVERT_RGB, 0, cv2.CAP_PROP_N_THREADS, 1])
            self._witness.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._grabs += grabs
        self._position, self._tested = index, bgr
        assert self._witness is not None
        return self._witness if all(self._witness.grab() for _ in range(grabs)) else None


def _difference(row_bytes: UInt8, letters: bytes, bgr: UInt8) -> float | None:
    """Return the levels between a frame's first plane and its RGB; None for a format that is not known."""
    if letters[:2] in _DEEP_LUMA and letters[3] in _DEPTHS:
        pairs = row_bytes[:, : row_bytes.shape[1] // 2 * 2].astype(np.float32)
        luma = (pairs[:, ::2] + 256 * pairs[:, 1::2]) / 2 ** (letters[3] - 8)
        return luma_difference(luma, bgr[:, : luma.shape[1]])
    if letters not in _BYTES:
        return None
    step, first, kind = _BYTES[letters]
    levels = row_bytes[:, first::step].astype(np.float32)
    there = bgr[:, : levels.shape[1]]
    if kind == _LUMA:
        return luma_difference(levels, there)
    return float(np.percentile(np.abs(levels - there[..., kind]), _PERCENTILE))


@contextlib.contextmanager
def new_memory_filled(level: int) -> Iterator[None]:
    """Let glibc fill the memory that it hands out, which may hold the same frame from before.

    Other C libraries lack this: there that memory is what it is.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        yield
        return
    with _perturbing:  # the option is the process's: another thread would reset it
        set_option(_M_PERTURB, level ^ 0xFF)
        try:
            yield
        finally:
            set_option(_M_PERTURB, 0)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenCV's warnings from standard error."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def luma_difference(luma: NDArray[np.float32], bgr: UInt8) -> float:
    """Return the levels by which luma and that of RGB differ, under the weights and range that fit best.

    Parameters
    ----------
    luma
        float32 (H, W), as coded.
    bgr
        uint8 (H, W, 3).
    """
    blue, green, red = np.moveaxis(bgr.astype(np.float32), 2, 0)
    inside = np.asarray(((bgr > 0) & (bgr < 255)).all(axis=2))
    if np.mean(inside) < 0.02:  # black, white and pure colours, which are clipped
        inside = np.ones_like(inside)
    expected = [np.clip(levels, 0, 255)[inside] for levels in (luma, (luma - 16) * (255 / 219))]
    lowest = np.inf
    for of_red, of_blue in _LUMA_WEIGHTS:
        grey = (of_red * red + (1 - of_red - of_blue) * green + of_blue * blue)[inside]
        for levels in expected:
            lowest = min(lowest, float(np.percentile(np.abs(grey - levels), _PERCENTILE)))
    return lowest
