"""The interface of a decoder to `flowkit.video.reader`: a video's facts, then frames and faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from flowkit.errors import InvalidParameterError
from flowkit.typing import Decoder, UInt8
from flowkit.validate import check_at_least, check_positive
from flowkit.video.orientation import Orientation

# As FFmpeg has it for MPEG-TS and its like (-dts_delta_threshold): their clock is the sender's, and starts
# anew where recordings are joined. MP4, Matroska and AVI have a time axis of their own; a frame that stays
# for minutes is true there, one that stays for longer than an hour is taken for a damaged time.
LONGEST_GAP_SECONDS = 10.0
LONGEST_GAP_OF_A_TIME_AXIS_SECONDS = 3600.0

# Used where a file names none: PAL's, and that of most action data sets.
DEFAULT_FPS = 25.0


# A smaller fraction of the header's packets or seconds is a video cut short; sound files come close to it.
COMPLETE_FRACTION = 0.95
# Headers count from 0 where frames begin a little later, and leave out the last frame's own time.
TOLERATED_FRAMES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """Facts of a video, known once its first frame has been decoded.

    Attributes
    ----------
    codec, pixel_format, container
        FFmpeg's names (OpenCV's four letters with decoder `opencv`; `images` for a folder).
    width, height
        Size of the first frame, upright (after `mirrored` and `rotation`), px.
    rotation
        Degrees clockwise by which stored frames are turned to stand upright: 0, 90, 180 or 270.
    mirrored
        Stored frames are mirrored left to right before they are turned, as those of front cameras.
    pixel_aspect
        Width of a pixel by its height, of the upright frame; 1.0 where the file names none. Readers do not
        scale frames by it.
    interlaced
        The first frame is coded as two fields, one half of a frame later than the other.
    fps
        Average frames per second; 25 where the file names none.
    header_frames, header_seconds
        Of this stream by the header, None where it has none. Headers are often wrong: no frame is
        ever counted by them.
    stream_index
        Index of the stream in the container; -1 where the decoder has none (`opencv`).
    origin_seconds
        The container's time of flowkit's time 0.
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
    mirrored: bool = False
    pixel_aspect: float = 1.0
    interlaced: bool = False

    def __post_init__(self) -> None:
        check_at_least("width", self.width, 1, unit="px")
        check_at_least("height", self.height, 1, unit="px")
        check_positive("fps", self.fps)
        check_positive("pixel_aspect", self.pixel_aspect)
        _ = self.orientation

    @property
    def orientation(self) -> Orientation:
        """The mirror and the turn that make stored frames upright."""
        return Orientation(rotation=self.rotation, mirrored=self.mirrored)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedFrame:
    """One decoded frame, converted to RGB only on call.

    Attributes
    ----------
    seconds
        Its time from the video's start, None where the file has none.
    width, height
        Of the upright frame, px.
    to_rgb
        Returns the upright frame as uint8 (H, W, 3): as it is coded for None; for a size, (width, height) in
        px of the upright frame, scaled to it. Only sources that scale are called with a size.
    repaired
        `seconds` is not the presentation time that the file gives.
    damaged
        The decoder reports that parts of it are missing.
    interlaced
        It shows two moments, one in each field.
    """

    seconds: float | None
    width: int
    height: int
    to_rgb: Callable[[tuple[int, int] | None], UInt8]
    repaired: bool = False
    damaged: bool = False
    interlaced: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A frame that is missing: its time in seconds (None: unknown) and the reason."""

    seconds: float | None
    reason: str


class Source(Protocol):
    """A video that one decoder has opened."""

    info: VideoInfo
    scales: bool
    """`DecodedFrame.to_rgb` takes a size: FFmpeg's area filter, from the decoder's planes."""
    keeps_frames: bool
    """A frame is converted at any time; else only before the next one is decoded."""

    @property
    def notes(self) -> list[str]:
        """Remarks on the video, final when its frames are converted."""

    @property
    def longest_gap_seconds(self) -> float:
        """Seconds between two frames beyond which the file's clock has jumped."""

    def events(self, start_seconds: float | None) -> Iterator[DecodedFrame | Fault]:
        """Decode, once, from `start_seconds` or earlier; from the very beginning if None."""

    def shortfall(self, frames: int, end_seconds: float, unread: int) -> str:
        """Return the evidence that a video is cut short, "" without any.

        Parameters
        ----------
        frames, end_seconds
            Frames that a reading of the whole video gave, and the end of the last.
        unread
            How many of them an earlier reading gave, and this one leapt over.
        """

    def close(self) -> None:
        """Close the file."""


def check_deinterlace(decoder: Decoder, *, whose: str = "asked for") -> None:
    """Raise InvalidParameterError unless a decoder, no `auto`, deinterlaces; `whose` wish it is is said."""
    if decoder == "opencv":
        raise InvalidParameterError(
            f"deinterlace, {whose}, needs decoder 'av', got 'opencv', which converts no interlaced frames; "
            "install `av`, or leave it out"
        )


def same(rgb: UInt8, size: tuple[int, int] | None) -> UInt8:
    """Return an image that is RGB already: a `DecodedFrame.to_rgb` of sources that do not scale."""
    assert size is None
    return rgb


def upright_pixel_aspect(aspect: float, orientation: Orientation) -> float:
    """Return the aspect of an upright frame's pixels; 1.0 for one that no pixel can have."""
    if not 0 < aspect < math.inf:
        return 1.0
    return 1 / aspect if orientation.sideways else aspect


def seconds_missing(reached: float, promised: float, fps: float) -> str:
    """Return the words for a video that ends too early, "" if it reaches the time promised, in seconds."""
    if reached >= min(COMPLETE_FRACTION * promised, promised - TOLERATED_FRAMES / fps - 1e-6):
        return ""
    return f"{reached:.2f} of the {promised:.2f} s that its header promises"
