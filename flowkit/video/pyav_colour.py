"""Conversion of PyAV's frames to RGB, as coded: neither primaries nor transfer are mapped."""

from __future__ import annotations

import errno
from enum import IntEnum
from pathlib import Path
from typing import cast

import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter

from flowkit.errors import DecodeError
from flowkit.frames import resize
from flowkit.typing import UInt8

# Numbers of ITU-T H.273 that OpenCV 5 leaves as coded: BT.709, BT.601, BT.470, SMPTE 240M and "unspecified";
# and their transfers, with sRGB, linear and those of BT.2020 for 10 and 12 bits.
_SCREEN_PRIMARIES = frozenset({1, 2, 4, 5, 6, 7})
_SCREEN_TRANSFERS = frozenset({1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 17})

# By the numbers of H.273, what a matrix without a conversion is near to; others become BT.601.
_NEAR_MATRICES = {10: Colorspace.BT2020, 12: Colorspace.ITU709, 13: Colorspace.ITU709}

# Exact, so that all processors give the same pixels; with planes of RGB no slower than without.
_AREA = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class RgbConverter:
    """Convert the frames of one video to RGB.

    Attributes
    ----------
    notes
        A remark if the colour matrix had to be guessed.
    """

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self._path = path
        # One for all frames: a reformatter that is made anew sets up its colour tables anew.
        self._reformatter, self._scaler = VideoReformatter(), VideoReformatter()
        self._matrix: Colorspace | None = None

    def convert(self, frame: VideoFrame) -> UInt8:
        """Return a frame as uint8 (H, W, 3), as it lies, with OpenCV's pixels.

        Raises
        ------
        DecodeError
            Its pixel format does not convert.
        """
        # Bicubic chroma, the frame's own colour matrix and blue first are OpenCV's choice too, so that
        # both decoders give the same pixels (FFmpeg's RGB of 10 bits is not its BGR turned round).
        converted = self._reformatted(
            frame, self._reformatter, format="bgr24", interpolation=Interpolation.BICUBIC
        )
        return np.asarray(cv2.cvtColor(converted.to_ndarray(), cv2.COLOR_BGR2RGB), np.uint8)

    def scale(self, frame: VideoFrame, size: tuple[int, int]) -> UInt8:
        """Return a frame as uint8 (height, width, 3), as it lies, scaled from its planes by area averages.

        A side that grows is interpolated linearly. Rounded, where `convert` truncates: about a level
        brighter. A frame of that size already is converted as OpenCV does, but for 10 bits to the level.

        Parameters
        ----------
        size
            (width, height) of the frame as it lies, px.

        Raises
        ------
        DecodeError
            Its pixel format does not convert.
        """
        if size == (frame.width, frame.height):
            converted = self._reformatted(
                frame, self._reformatter, format="rgb24", interpolation=Interpolation.BICUBIC
            )
            return np.asarray(converted.to_ndarray(), np.uint8)
        if frame.interlaced_frame:
            # swscale would scale each field by itself, and keep the combs of two moments.
            whole = self._merged(frame, (frame.width, frame.height))
            return resize(whole, size)
        return self._merged(frame, size)

    def _merged(self, frame: VideoFrame, size: tuple[int, int]) -> UInt8:
        # Planes of RGB are written by vector instructions, and with all of the chroma: packed RGB takes
        # twice the time, and halves the chroma's columns where the width is even.
        planes = self._reformatted(frame, self._scaler, format="gbrp", interpolation=_AREA, size=size).planes
        green, blue, red = map(_rows, planes)
        return np.asarray(cv2.merge([red, green, blue]), np.uint8)

    def _reformatted(
        self,
        frame: VideoFrame,
        reformatter: VideoReformatter,
        *,
        format: str,
        interpolation: Interpolation,
        size: tuple[int, int] | None = None,
    ) -> VideoFrame:
        width, height = size or (frame.width, frame.height)
        try:
            # Scaling threads cost more than they bring at these sizes.
            return reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=format,
                src_colorspace=self._matrix,
                dst_colorspace=self._matrix,
                interpolation=interpolation,
                threads=1,
            )
        except av.error.FFmpegError as error:
            # YCgCo, ICtCp, a damaged number: one tag shall not cost the video.
            if self._matrix is not None or error.errno != errno.EOPNOTSUPP:
                raise self._failure(frame, error) from error
            self._matrix = _NEAR_MATRICES.get(frame.colorspace, Colorspace.ITU601)
            self.notes.append(
                f"the colour matrix {frame.colorspace} has no conversion and is read as {self._matrix.name}"
            )
            return self._reformatted(
                frame, reformatter, format=format, interpolation=interpolation, size=size
            )
        except ValueError as error:
            raise self._failure(frame, error) from error

    def _failure(self, frame: VideoFrame, error: Exception) -> DecodeError:
        return DecodeError(f"{self._path}: {frame.format.name} does not convert to RGB: {error}")


def _rows(plane: VideoPlane) -> UInt8:
    """Return a plane as uint8 (H, W), without what lies beyond the ends of its rows."""
    buffer = cast("memoryview", plane)  # PyAV's types do not say that it is one
    rows: UInt8 = np.frombuffer(buffer, np.uint8).reshape(-1, plane.line_size)
    # OpenCV merges rows with gaps three times as slowly.
    return np.ascontiguousarray(rows[: plane.height, : plane.width])


def unlike_opencv(frame: VideoFrame) -> str:
    """Return the words for a frame that OpenCV 5 gives with other pixels, or with none; "" if it does not."""
    if frame.interlaced_frame:
        return "it does not convert interlaced frames"
    if frame.color_primaries in _SCREEN_PRIMARIES and frame.color_trc in _SCREEN_TRANSFERS:
        return ""
    primaries, transfer = _name(ColorPrimaries, frame.color_primaries), _name(ColorTrc, frame.color_trc)
    return f"it maps colours (primaries {primaries}, transfer {transfer}) to those of a screen"


def _name(kind: type[IntEnum], number: int) -> str:
    try:
        return kind(number).name
    except ValueError:
        return str(number)
