"""OpenCV's side of `flowkit.video.reader`: the fallback where PyAV is not installed.

OpenCV reports neither failed packets nor damaged frames, reads past errors in silence or stops at
them, scales frames whose size changes midway to the first size, and reads no
AV1 without a GPU. Its pixels are PyAV's, or the file is refused: OpenCV 5 converts no interlaced frames, and
maps wide and HDR colours to those of a screen, where PyAV leaves them as coded. PyAV reports both of the
first frame; where it is not installed, `opencv_check` finds frames that are not converted, and colours are
OpenCV's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from flowkit.errors import DecodeError, UnopenableError
from flowkit.typing import UInt8
from flowkit.video.container import container_orientations, fitting, of_packet, shown_seconds
from flowkit.video.opencv_check import ConversionCheck, quiet
from flowkit.video.orientation import UPRIGHT, Orientation, right_angle
from flowkit.video.source import (
    COMPLETE_FRACTION,
    DEFAULT_FPS,
    LONGEST_GAP_OF_A_TIME_AXIS_SECONDS,
    LONGEST_GAP_SECONDS,
    TOLERATED_FRAMES,
    DecodedFrame,
    Fault,
    VideoInfo,
    same,
    seconds_missing,
    upright_pixel_aspect,
)

# Read by OpenCV when it opens its first video: FFmpeg's messages would go to stderr. -8 is AV_LOG_QUIET.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_QUICKTIME_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


class CvSource:
    """A file opened with OpenCV's FFmpeg; see `flowkit.video.source.Source`.

    Parameters
    ----------
    path
        An existing file.
    threads
        Decoding threads; 0 lets FFmpeg choose.

    Raises
    ------
    UnopenableError
        The file does not open, or has no video stream: OpenCV does not distinguish the two.
    DecodeError
        Not one frame decodes, or OpenCV's pixels are not those of the file.
    """

    scales, keeps_frames = False, False

    def __init__(self, path: Path, threads: int) -> None:
        if path.stat().st_size == 0:
            raise UnopenableError(f"{path}: the file is empty")
        if not _is_utf8(path):
            # OpenCV 5.0 crashes on such names.
            raise UnopenableError(
                f"{path!r}: OpenCV opens no name that is not UTF-8; rename the file or use PyAV"
            )
        self._check = ConversionCheck(str(path), partial(_capture, path))
        self._capture = _capture(path, [cv2.CAP_PROP_N_THREADS, threads])
        if not self._capture.isOpened():
            raise UnopenableError(f"{path}: OpenCV cannot open it as a video, or it has no video stream")
        # OpenCV would turn frames by an angle that a mirror falsifies.
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        if not self._capture.grab():
            self.close()
            raise DecodeError(f"{path}: OpenCV decodes no frame of it")
        self.notes: list[str] = []
        self._path = path
        own_axis = _has_time_axis(path)
        self.longest_gap_seconds = LONGEST_GAP_OF_A_TIME_AXIS_SECONDS if own_axis else LONGEST_GAP_SECONDS
        self._orientation = _orientation(path, self._capture)
        self._grabbed = 0
        # The end of the latest frame in frames of the container's time, not of the video's.
        self._end_frame = 0.0
        try:
            _refuse_other_pixels(path)
            self._first = self._rgb()
        except BaseException:  # Ctrl-C too: nothing stays open
            self.close()
            raise
        self.info = self._describe()

    def events(self, start_seconds: float | None) -> Iterator[DecodedFrame | Fault]:
        """Decode from the beginning: OpenCV does not seek exactly."""
        yield self._event(self._seconds(), partial(same, self._first))
        while self._capture.grab():
            self._grabbed += 1
            # Frames that come out at the end may have no time: OpenCV gives 0 for it.
            self._end_frame = max(self._end_frame, self._capture.get(cv2.CAP_PROP_PTS) + 1)
            yield self._event(self._seconds() or None, self._rgb)
        if self._capture.isOpened():
            self._check.finish()

    def shortfall(self, frames: int, end_seconds: float, unread: int) -> str:
        """Return the evidence that the video is cut short: OpenCV ends a file in silence where it fails."""
        info, shown = self.info, shown_seconds(self._path)
        if shown is not None:
            return seconds_missing(max(end_seconds, self._end_frame / info.fps), shown, info.fps)
        counted = info.header_frames or 0
        if max(frames, self._end_frame) >= min(COMPLETE_FRACTION * counted, counted - TOLERATED_FRAMES):
            return ""
        return f"{frames} of the {counted} frames that its header counts"

    def close(self) -> None:
        """Close the file."""
        self._capture.release()
        self._check.close()

    def _event(
        self, seconds: float | None, to_rgb: Callable[[tuple[int, int] | None], UInt8]
    ) -> DecodedFrame:
        # OpenCV gives every frame at the first one's size.
        height, width = self._first.shape[:2]
        return DecodedFrame(seconds=seconds, width=width, height=height, to_rgb=to_rgb)

    def _seconds(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _rgb(self, size: tuple[int, int] | None = None) -> UInt8:
        assert size is None
        retrieved, bgr = self._capture.retrieve()
        if not retrieved:
            raise DecodeError(f"{self._path}: OpenCV grabbed a frame and could not convert it")
        self._check.check(self._grabbed, np.asarray(bgr, np.uint8))
        return self._orientation.upright(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))

    def _describe(self) -> VideoInfo:
        height, width = self._first.shape[:2]
        get = self._capture.get
        fps = get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
        wide, high = get(cv2.CAP_PROP_SAR_NUM), get(cv2.CAP_PROP_SAR_DEN)
        frames = int(get(cv2.CAP_PROP_FRAME_COUNT))  # where the header counts none: seconds * fps
        return VideoInfo(
            codec=_four_letters(get(cv2.CAP_PROP_FOURCC)),
            pixel_format=_four_letters(get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)),
            width=width,
            height=height,
            rotation=self._orientation.rotation,
            mirrored=self._orientation.mirrored,
            pixel_aspect=upright_pixel_aspect(wide / high if high > 0 else 1.0, self._orientation),
            fps=fps,
            header_frames=frames if frames > 0 else None,
            header_seconds=frames / fps if frames > 0 else None,
            stream_index=int(get(cv2.CAP_PROP_VIDEO_STREAM)),
            container="",
            origin_seconds=0.0,
            decoder="opencv",
        )


def _orientation(path: Path, capture: cv2.VideoCapture) -> Orientation:
    """Return the orientation by the container's matrix, or by OpenCV's angle where it has none."""
    angle = right_angle(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    tracks = container_orientations(path)
    index = int(capture.get(cv2.CAP_PROP_VIDEO_STREAM))
    mine = tracks[index : index + 1] if index >= 0 else ()
    asked = fitting(angle, (*mine, *tracks))
    return of_packet(_first_packet(path)) if asked == UPRIGHT else asked


def _refuse_other_pixels(path: Path) -> None:
    """Raise DecodeError where PyAV is installed and finds a frame that OpenCV gives with other pixels."""
    try:
        from flowkit.video.pyav import first_frame_unlike_opencv
    except ImportError:
        return
    if found := first_frame_unlike_opencv(path):
        raise DecodeError(f"{path}: OpenCV would not give its pixels: {found}; use decoder 'av'")


def _first_packet(path: Path) -> bytes:
    """Return the bytes of the first packet, H.264 and HEVC with start codes; b"" without one."""
    capture = _capture(path, [cv2.CAP_PROP_FORMAT, -1])
    try:
        got, packet = capture.read()
        return packet.tobytes() if got and packet is not None else b""
    finally:
        capture.release()


def _has_time_axis(path: Path) -> bool:
    """Return whether a file is MP4, QuickTime, Matroska or AVI, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"\x1a\x45\xdf\xa3" or head[8:] == b"AVI " or head[4:8] in _QUICKTIME_BOXES


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _capture(path: Path, options: Sequence[int]) -> cv2.VideoCapture:
    """Open without OpenCV's warning for every file that it cannot read: an error is raised for it."""
    with quiet():
        return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)


def _four_letters(code: float) -> str:
    letters = int(code).to_bytes(4, "little", signed=True).decode("latin-1")
    return "".join(filter(str.isalnum, letters))
