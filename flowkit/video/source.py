"""What every decoder gives to `flowkit.video.reader`: facts about a video, then pictures and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from flowkit.typing import UInt8
from flowkit.validate import check_at_least, check_choice, check_positive

# Used where a file names no rate: PAL's, and most action data sets' own.
DEFAULT_FPS = 25.0

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What is known of a video once its first frame has been decoded.

    Attributes
    ----------
    codec, pixel_format, container
        FFmpeg's names (OpenCV's four letters with decoder `opencv`; `images` for a folder).
    width, height
        Pixels of the first frame as it is handed out: upright, after `rotation`.
    rotation
        Degrees clockwise by which stored frames are turned to stand upright: 0, 90, 180 or 270.
    fps
        Average frames per second; 25 where the file names none.
    header_frames, header_seconds
        What the header claims of this stream, None where it claims nothing. Headers lie: no
        frame is ever counted by them.
    stream_index
        Which stream of the container this is; -1 where the decoder does not tell (`opencv`).
    origin_seconds
        The container's name for the moment that flowkit calls 0.
    decoder
        `av`, `opencv` or `images`.
    """

    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    fps: float
    header_frames: int | None
    header_seconds: float | None
    stream_index: int
    container: str
    origin_seconds: float
    decoder: str

    def __post_init__(self) -> None:
        check_at_least("width", self.width, 1, unit="px")
        check_at_least("height", self.height, 1, unit="px")
        check_choice("rotation", self.rotation, (0, *_TURNS))
        check_positive("fps", self.fps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One decoded frame, converted only when asked.

    Attributes
    ----------
    seconds
        Its time from the video's start, None where the file tells none.
    to_rgb
        Gives the upright frame as uint8 (H, W, 3).
    repaired
        `seconds` is not the presentation time that the file gives.
    damaged
        The decoder itself says that parts of it are missing.
    """

    seconds: float | None
    to_rgb: Callable[[], UInt8]
    repaired: bool = False
    damaged: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that should have been a frame: when (None: unknown) and what went wrong."""

    seconds: float | None
    reason: str


class Source(Protocol):
    """A video that one decoder has opened."""

    info: VideoInfo
    hidden_frames: int  # counted by the header, withheld on purpose (edit lists)

    def events(self, start_seconds: float | None) -> Iterator[Picture | Fault]:
        """Decode, once, from `start_seconds` or earlier; from the very beginning if None."""

    def close(self) -> None:
        """Let go of the file."""


def turn(rgb: UInt8, rotation: int) -> UInt8:
    """Turn a picture clockwise by 0, 90, 180 or 270 degrees."""
    if rotation == 0:
        return rgb
    return np.asarray(cv2.rotate(rgb, _TURNS[rotation]), np.uint8)


def right_angle(degrees_clockwise: float) -> int:
    """Round an angle to the nearest quarter turn, in [0, 360): only those keep a picture a picture."""
    return round(degrees_clockwise / 90) * 90 % 360
