"""The size of stored frames, and who scales them to it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from flowkit.errors import InvalidParameterError
from flowkit.jpeg import MOST_PIXELS
from flowkit.untrusted_json import parse_json
from flowkit.validate import check_choice, check_integer, check_that, shown

ResizeMode = Literal["short_side", "size", "native"]
Interpolation = Literal["auto", "linear"]
Scaler = Literal["swscale", "opencv"]
Pixels = Literal["square", "stored"]

# A header's rounding makes an aspect of 224:225; broadcast's own begin at 10:11.
SQUARE_TOLERANCE = 0.01
# A wide lens and half a broadcast's lines together make 4; more is a damaged header.
MOST_PIXEL_ASPECT = 8.0


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
    pixels
        `square`: a frame whose pixels are not square counts as it is shown, with the side stretched that
        grows by it, whatever the mode but `size`. `stored`: it counts as it is coded. None: as the store
        has it; a new one has `stored` with mode `size`, else `square`.
    scaler
        `swscale`: FFmpeg's area filter, from the decoder's planes to RGB of the size in one step (along
        each side that grows, linear). `opencv`: RGB first, then `cv2.resize`, as all stores before. None: as
        the store has it; a new one has `swscale` with decoder `av` and interpolation `auto`, else `opencv`.

    Raises
    ------
    InvalidParameterError
        On an unknown name, sizes that do not fit the mode, square pixels with mode `size`, or
        swscale with interpolation `linear`.
    """

    mode: ResizeMode = "short_side"
    short_side: int = 256
    width: int | None = None
    height: int | None = None
    interpolation: Interpolation = "auto"
    pixels: Pixels | None = None
    scaler: Scaler | None = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(ResizeMode))
        check_choice("interpolation", self.interpolation, get_args(Interpolation))
        check_choice("pixels", self.pixels, (*get_args(Pixels), None))
        check_choice("scaler", self.scaler, (*get_args(Scaler), None))
        check_integer("short_side", self.short_side, 1, unit="px")
        if (self.mode == "size") != (self.width is not None) or (self.width is None) != (self.height is None):
            raise InvalidParameterError(
                f"width and height belong to mode 'size' alone and come together, "
                f"got mode {self.mode!r} with width {self.width}, height {self.height}"
            )
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None:
                check_integer(name, pixels, 1, unit="px")
        if self.mode == "size" and self.pixels == "square":
            raise InvalidParameterError(
                "pixels 'square' does not go with an exact size, whose frames have the shape asked for; "
                "take pixels 'stored', or a short side"
            )
        if self.interpolation == "linear" and self.scaler == "swscale":
            raise InvalidParameterError(
                "interpolation 'linear' is OpenCV's, to the level, got scaler 'swscale'; "
                "take scaler 'opencv', or interpolation 'auto'"
            )

    def target_size(self, width: int, height: int, pixel_aspect: float = 1.0) -> tuple[int, int]:
        """Return (width, height) in px of a frame of `width` x `height` px, resized.

        The longer side rounds to the nearest pixel, halves up, and is at least 1.

        Parameters
        ----------
        width, height
            Of the upright frame, px.
        pixel_aspect
            Width of its pixels by their height, > 0; of effect with `pixels` `square` alone.

        Raises
        ------
        InvalidParameterError
            It has more than `jpeg.MOST_PIXELS`, which no reader would decode.
        """
        if self.pixels == "square":
            width, height = display_size(width, height, pixel_aspect)
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
        """Return the rule as one line of JSON, keys sorted; only those that the mode uses.

        Pixels `stored` and scaler `opencv` are left out, as in stores from before there were others.
        """
        fields = asdict(self)
        if self.mode != "short_side":
            del fields["short_side"]
        if self.mode != "size":
            del fields["width"], fields["height"]
        for name, before in _BEFORE.items():
            if fields[name] in (before, None):
                del fields[name]
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ResizeRule:
        """Return the rule of `to_json`'s text; without pixels or scaler those are `stored` and `opencv`.

        Raises
        ------
        InvalidParameterError
            The text is no such rule.
        """
        try:
            fields = parse_json(text, source="a resize rule")
            return cls(**{**_BEFORE, **fields})
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"{shown(text)} is no resize rule: {error}") from error

    def decided(self, stored: ResizeRule | None, *, planes: bool) -> ResizeRule:
        """Return the rule with `pixels` and `scaler`: its own, else those of `stored`, else a new store's.

        `planes` says whether the decoder gives them, as PyAV does.
        """
        pixels, scaler = self.pixels, self.scaler
        if pixels is None and self.mode == "size":
            pixels = "stored"
        if scaler is None and self.interpolation == "linear":
            scaler = "opencv"
        if stored is not None:
            pixels, scaler = pixels or stored.pixels, scaler or stored.scaler
        return replace(self, pixels=pixels or "square", scaler=scaler or ("swscale" if planes else "opencv"))


_BEFORE = {"pixels": "stored", "scaler": "opencv"}


def has_possible_aspect(pixel_aspect: float) -> bool:
    """Return whether a display can have pixels of an aspect; one beyond 8 is that of a damaged header."""
    return 1 / MOST_PIXEL_ASPECT <= pixel_aspect <= MOST_PIXEL_ASPECT


def is_square(pixel_aspect: float) -> bool:
    """Return whether pixels count as square: to 1 %, and where no display can have them."""
    return not has_possible_aspect(pixel_aspect) or abs(pixel_aspect - 1) <= SQUARE_TOLERANCE


def display_size(width: int, height: int, pixel_aspect: float) -> tuple[int, int]:
    """Return (width, height) in px of a frame with square pixels: the side that grows is stretched.

    Players mostly stretch the width alone; the shape is the same, and no column is lost this way.
    """
    if is_square(pixel_aspect):
        return width, height
    if pixel_aspect > 1:
        return math.floor(width * pixel_aspect + 0.5), height
    return width, math.floor(height / pixel_aspect + 0.5)
