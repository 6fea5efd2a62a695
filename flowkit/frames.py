"""Geometry and time of frames: the resize rule, grey, pairs with a step, resampling by time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.jpeg import MOST_PIXELS
from flowkit.typing import UInt8
from flowkit.untrusted_json import parse_json
from flowkit.validate import check_at_least, check_choice, check_integer, check_positive, check_that, shown

ResizeMode = Literal["short_side", "size", "native"]
Interpolation = Literal["auto", "linear"]
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ResizeRule:
    """Size of frames before their flow is computed.

    Attributes
    ----------
    mode
        `short_side` scales the shorter side down to `short_side` pixels, keeps the aspect and
        never enlarges; `size` makes exactly `width` x `height`; `native` leaves frames alone.
    short_side
        Pixels, used by that mode only.
    width, height
        Pixels, given for mode `size` and for no other.
    interpolation
        `auto`: area averaging where the image shrinks, linear where it grows. `linear`: always
        linear, the way TSN's tools resize.

    Raises
    ------
    InvalidParameterError
        On an unknown mode or interpolation, or sizes that do not fit the mode.
    """

    mode: ResizeMode = "short_side"
    short_side: int = 256
    width: int | None = None
    height: int | None = None
    interpolation: Interpolation = "auto"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(ResizeMode))
        check_choice("interpolation", self.interpolation, get_args(Interpolation))
        check_integer("short_side", self.short_side, 1, unit="px")
        if (self.mode == "size") != (self.width is not None) or (self.width is None) != (self.height is None):
            raise InvalidParameterError(
                f"width and height belong to mode 'size' alone and come together, "
                f"got mode {self.mode!r} with width {self.width}, height {self.height}"
            )
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None:
                check_integer(name, pixels, 1, unit="px")

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) in px of a frame of `width` x `height` px, resized.

        The longer side rounds to the nearest pixel, halves up, and is at least 1.

        Raises
        ------
        InvalidParameterError
            It has more than `jpeg.MOST_PIXELS`, which no reader would decode.
        """
        if self.width is not None and self.height is not None:
            width, height = self.width, self.height
        elif self.mode == "short_side" and (short := min(width, height)) > self.short_side:
            # In integers: floating point would round some halves down.
            width, height = (
                max(1, (2 * side * self.short_side + short) // (2 * short)) for side in (width, height)
            )
        few = width * height <= MOST_PIXELS
        check_that("the size", f"{width}x{height} px", few, f"{MOST_PIXELS} px at most", remedy="take --size")
        return width, height

    def to_json(self) -> str:
        """Return the rule as one line of JSON, keys sorted; only those that the mode uses."""
        fields = asdict(self)
        if self.mode != "short_side":
            del fields["short_side"]
        if self.mode != "size":
            del fields["width"], fields["height"]
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ResizeRule:
        """Return the rule of `to_json`'s text.

        Raises
        ------
        InvalidParameterError
            The text is no such rule.
        """
        try:
            fields = parse_json(text, source="a resize rule")
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{shown(text)} is no resize rule: {error}") from error


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


def _at_ticks(frames: Iterator[Frame], fps: float) -> Iterator[Frame]:
    shown = next(frames, None)
    if shown is None:
        return
    start = shown.pts_seconds
    ticks = 0
    for coming in frames:
        # Before `coming` begins, `shown` stays on screen.
        while start + ticks / fps + TICK_SLACK_SECONDS < coming.pts_seconds:
            yield Frame(rgb=shown.rgb, pts_seconds=start + ticks / fps)
            ticks += 1
        shown = coming
    while start + ticks / fps <= shown.pts_seconds + TICK_SLACK_SECONDS:
        yield Frame(rgb=shown.rgb, pts_seconds=start + ticks / fps)
        ticks += 1
