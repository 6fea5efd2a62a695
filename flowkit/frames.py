"""Frames, in time and in grey: resizing by OpenCV, pairs with a step, resampling by time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.resize_rule import Interpolation
from flowkit.typing import UInt8
from flowkit.validate import check_at_least, check_choice, check_positive

Pixel = TypeVar("Pixel", bound=np.generic)

# Containers round times to as much as 1/600 s (old QuickTime) or 1 ms (Matroska, Flash): a frame
# that comes this little after a tick was meant for it.
TICK_SLACK_SECONDS = 0.002


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """One upright image and its presentation time.

    Attributes
    ----------
    rgb
        uint8 (H, W, 3), red first, rotation applied.
    pts_seconds
        Presentation time in seconds from the video's own start.
    """

    rgb: UInt8
    pts_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LazyFrame:
    """One decoded image, made RGB on call, and its presentation time.

    Attributes
    ----------
    width, height
        Of the upright image as it is coded, px.
    to_rgb
        Called with a size, (width, height) in px of the upright image, or None for that as coded: returns
        uint8 (height, width, 3), red first, rotation applied.
    pts_seconds
        Presentation time in seconds from the video's own start.
    """

    width: int
    height: int
    to_rgb: Callable[[tuple[int, int] | None], UInt8]
    pts_seconds: float


AnyFrame = TypeVar("AnyFrame", Frame, LazyFrame)


def resize(
    image: NDArray[Pixel], size: tuple[int, int], interpolation: Interpolation = "auto"
) -> NDArray[Pixel]:
    """Resize an image, in colour before it becomes grey, or a plane.

    Parameters
    ----------
    image
        uint8, float32 or float64 (H, W, 3) or (H, W).
    size
        (width, height) in pixels.
    interpolation
        `auto`: as `area_or_linear` has it. `linear`: always linear.

    Returns
    -------
    (height, width, 3) or (height, width) of the same dtype; the input itself where the size already fits.
    """
    check_choice("interpolation", interpolation, get_args(Interpolation))
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    area = interpolation == "auto" and area_or_linear((width, height), size)
    pixels: Any = image  # cv2's own types know no variables
    made = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    return np.asarray(made, image.dtype)


def area_or_linear(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Return whether interpolation `auto` averages areas, because neither side grows; else it is linear.

    OpenCV's area mode is only an average where both sides shrink. Sizes are (width, height), px.
    """
    return after[0] <= before[0] and after[1] <= before[1]


def to_grey(rgb: UInt8) -> UInt8:
    """Convert uint8 (H, W, 3) RGB to uint8 (H, W) grey, by OpenCV's fixed-point BT.601 weights.

    Equal to `cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)` of the same image, which TSN's and
    denseflow's flow saw; FFmpeg's own grey differs from it by up to tens of levels.
    """
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def pair_indices(n: int, step: int = 1) -> NDArray[np.int64]:
    """Return the frame pairs (k, k + step) of `n` frames, int64 (max(n - step, 0), 2).

    Raises
    ------
    InvalidParameterError
        `n` is negative or `step` below 1.
    """
    check_at_least("n", n, 0)
    check_at_least("step", step, 1)
    first = np.arange(max(n - step, 0), dtype=np.int64)
    return np.stack([first, first + step], axis=1)


def resample(frames: Iterable[Frame], fps: float) -> Iterator[Frame]:
    """Resample frames to constant fps: at each tick the frame on screen then.

    Ticks are at t0 + k / fps, where t0 is the first frame's time, and end with the last frame's
    time. On screen is the last frame that began by the tick, or up to 2 ms after it, because
    containers round. A frame is repeated where `fps` exceeds the video's. One frame is held
    at a time.

    Parameters
    ----------
    frames
        In order of time.
    fps
        Ticks per second, above 0.

    Returns
    -------
    Iterator of frames whose `pts_seconds` are the ticks.

    Raises
    ------
    InvalidParameterError
        `fps` is not a positive finite number.
    """
    check_positive("fps", fps)
    return _at_ticks(iter(frames), fps)


def resample_lazy(frames: Iterable[LazyFrame], fps: float) -> Iterator[LazyFrame]:
    """Resample frames as `resample` does, of which none is converted; a repeated one keeps its `to_rgb`."""
    check_positive("fps", fps)
    return _at_ticks(iter(frames), fps)


def _at_ticks(frames: Iterator[AnyFrame], fps: float) -> Iterator[AnyFrame]:
    shown = next(frames, None)
    if shown is None:
        return
    start = shown.pts_seconds
    ticks = 0
    for coming in frames:
        # Before `coming` begins, `shown` stays on screen.
        while start + ticks / fps + TICK_SLACK_SECONDS < coming.pts_seconds:
            yield replace(shown, pts_seconds=start + ticks / fps)
            ticks += 1
        shown = coming
    while start + ticks / fps <= shown.pts_seconds + TICK_SLACK_SECONDS:
        yield replace(shown, pts_seconds=start + ticks / fps)
        ticks += 1
