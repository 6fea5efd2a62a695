"""A video file, or a folder of numbered images, as upright RGB frames with their times.

Times are seconds from the video's own start (the stream's start time in the container, which
`VideoInfo.origin_seconds` keeps), rise strictly, and are the file's where it has them, up to a jump
of its clock. Packets that do not decode are skipped and counted; a frame that the decoder gives although
parts of it are lost is kept, as every player keeps it, and counted too.
"""

from __future__ import annotations

import importlib
import math
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

from flowkit.errors import BackendUnavailableError, FlowkitError, InvalidParameterError, UnopenableError
from flowkit.frames import Frame, LazyFrame
from flowkit.typing import Decoder
from flowkit.validate import check_at_least, check_choice, check_positive, check_range
from flowkit.video import image_folder as images
from flowkit.video.clock import Clock
from flowkit.video.image_folder import is_image_folder
from flowkit.video.opencv import CvSource
from flowkit.video.source import DecodedFrame, Fault, Source, VideoInfo, check_deinterlace, same

__all__ = [
    "VIDEO_SUFFIXES",
    "DecodeReport",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "choose_decoder",
    "default_decoder",
    "is_image_folder",
    "open_video",
    "probe",
]

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg "
    ".mpg .mts .mxf .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)


@dataclass(kw_only=True, slots=True)
class DecodeReport:
    """Counts of a decoding so far; final once `finished`.

    Attributes
    ----------
    frames
        Frames returned, and those before them that an earlier reading gave.
    skipped_frames
        Packets or images that did not decode, or are missing; 0 with decoder `opencv`.
    damaged_frames
        Frames returned although the decoder reports that parts of them are lost.
    pts_repaired
        Frames whose time in the file was missing or ran backwards, and was replaced.
    interlaced_frames
        Frames of two moments: coded as two fields, one half of a frame later than the other, and not
        deinterlaced.
    truncated, truncated_reason
        The decoder reported an error, or, where the whole video was asked for, the file ends before its
        container does, or has fewer than 95 % of the packets (or seconds) of its header; and the reason,
        "" if none.
    notes
        Other remarks: a clock that jumps, a colour matrix that was guessed.
    finished
        The video was read to its end, or to the end asked for.
    """

    frames: int = 0
    skipped_frames: int = 0
    damaged_frames: int = 0
    pts_repaired: int = 0
    interlaced_frames: int = 0
    truncated: bool = False
    truncated_reason: str = ""
    notes: list[str] = field(default_factory=list)
    finished: bool = False

    def _mark_truncated(self, reason: str) -> None:
        self.truncated = True
        self.truncated_reason = "; ".join(filter(None, (self.truncated_reason, reason)))


class VideoReader:
    """Iterator of a video's frames and their times; also a context manager.

    Attributes
    ----------
    info
        `VideoInfo`, from the start on.
    report
        `DecodeReport`, live: final when the iterator is exhausted.
    scales
        `to_rgb` of lazy frames takes a size, which the decoder's own filter scales to.
    """

    def __init__(
        self,
        source: Source,
        *,
        start_seconds: float | None,
        end_seconds: float | None,
        frames_before: int = 0,
    ) -> None:
        self.info = source.info
        self.report = DecodeReport(frames=frames_before)
        self._source = source
        self._of_whole = end_seconds is None and (start_seconds is None or frames_before > 0)
        # Of the frames before, those that are decoded again to get to the start.
        self._frames_before, self._again = frames_before, 0
        self._start = -math.inf if start_seconds is None else start_seconds
        self._end = math.inf if end_seconds is None else end_seconds
        self._clock = Clock(1 / source.info.fps, source.longest_gap_seconds)
        self._first_fault = ""
        self._frames = self._read(source.events(start_seconds))
        self.scales = source.scales

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame = next(self._frames)
        return Frame(rgb=frame.to_rgb(None), pts_seconds=frame.pts_seconds)

    def lazy(self) -> Iterator[LazyFrame]:
        """Return the same iterator, of frames that are not converted yet.

        Each may be converted at any time before the reader is closed. A conversion raises DecodeError
        where its pixel format is not known.
        """
        return self._frames

    def close(self) -> None:
        """Close the file; the iterator ends, and `report.finished` stays as it is."""
        self._frames.close()
        self._source.close()

    def _read(self, events: Iterator[DecodedFrame | Fault]) -> Generator[LazyFrame, None, None]:
        for event in events:
            if isinstance(event, Fault):
                self._note_fault(event)
                continue
            seconds, repaired = self._clock.read(event.seconds)
            if seconds < self._start:
                self._again += 1
                continue
            if seconds >= self._end:
                break
            self.report.pts_repaired += repaired or event.repaired
            self.report.damaged_frames += event.damaged
            self.report.interlaced_frames += event.interlaced
            self.report.frames += 1
            to_rgb = event.to_rgb
            if not self._source.keeps_frames:
                to_rgb = partial(same, to_rgb(None))
            yield LazyFrame(width=event.width, height=event.height, to_rgb=to_rgb, pts_seconds=seconds)
        self.report.notes += self._source.notes
        self._note_jumps()
        self._check_completeness()
        self.report.finished = True

    def _note_jumps(self) -> None:
        clock = self._clock
        if clock.jumps:
            after, seconds = clock.first_jump
            times = "once" if clock.jumps == 1 else f"{clock.jumps} times, first"
            self.report.notes.append(
                f"the file's clock jumps {times} by {seconds:+.2f} s, after {after:.2f} s; "
                "times go on by the frame rate"
            )

    def _note_fault(self, fault: Fault) -> None:
        when = self._clock.last if fault.seconds is None else self._clock.mended(fault.seconds)
        # Behind a seek the decoder may fail before the start asked for: that part does not count.
        if self._start <= (-math.inf if when is None else when) < self._end:
            self._first_fault = self._first_fault or _at(when, fault.reason)
            self.report.skipped_frames += 1

    def _check_completeness(self) -> None:
        report, info = self.report, self.info
        if report.skipped_frames:
            report._mark_truncated(f"{report.skipped_frames} did not decode, the first {self._first_fault}")
        if report.damaged_frames:
            report._mark_truncated(f"{report.damaged_frames} decoded with parts lost")
        if not self._of_whole or self._clock.jumps:
            return
        covered = 0.0 if self._clock.last is None else self._clock.last + 1 / info.fps
        unread = max(0, self._frames_before - self._again)
        if missing := self._source.shortfall(report.frames, covered, unread):
            report._mark_truncated(missing)


def open_video(
    path: str | Path,
    *,
    decoder: Decoder = "auto",
    fps: float | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    threads: int = 1,
    deinterlace: bool = False,
    frames_before: int = 0,
) -> VideoReader:
    """Open a video file, or a folder of numbered images, and decode its first frame.

    Parameters
    ----------
    path
        The file or folder.
    decoder
        `av` (PyAV), `opencv`, or `auto`: PyAV where it imports, else OpenCV; `info.decoder` names the
        one that reads. Both give the same pixels: `opencv` refuses interlaced video and, where PyAV is
        there to find them, wide and HDR colours, which it would map. A folder of images needs neither.
    fps
        Frames per second of a folder of images, 25 if None; files have their own.
    start_seconds, end_seconds
        Take frames shown at start <= time < end only; None: from the first, to the last.
    threads
        Decoding threads; 0 lets FFmpeg choose. One is right where videos run in parallel. More give
        the same frames, but those that follow a fault may be concealed differently.
    deinterlace
        Make frames that are coded as two fields those of one moment, by FFmpeg's bwdif: one frame for each,
        with its time. Others stay as they are. Needs decoder `av`.
    frames_before
        Frames before `start_seconds` that an earlier reading gave, without a fault. The report counts them as
        read, and is that of the whole video.

    Returns
    -------
    VideoReader, to be closed or used as a context manager.

    Raises
    ------
    UnopenableError
        No such file, an empty one, or none that opens as a video.
    NoVideoStreamError
        It opens and has no video stream.
    DecodeError
        It has a video stream, and no frame of it decodes.
    BackendUnavailableError
        The decoder named is not installed.
    InvalidParameterError
        An unknown decoder, numbers out of range, or `deinterlace` with decoder `opencv`.
    """
    check_choice("decoder", decoder, get_args(Decoder))
    if fps is not None:
        check_positive("fps", fps)
    check_at_least("threads", threads, 0)
    check_at_least("frames_before", frames_before, 0)
    if frames_before and start_seconds is None:
        raise InvalidParameterError(f"frames_before={frames_before} needs the start_seconds that they end at")
    _check_window(start_seconds, end_seconds)
    try:
        source = _source(Path(path), decoder, fps, threads, deinterlace)
    except FlowkitError:
        raise
    except OSError as error:
        raise UnopenableError(f"{path}: {error.strerror or error}") from error
    return VideoReader(
        source, start_seconds=start_seconds, end_seconds=end_seconds, frames_before=frames_before
    )


def probe(path: str | Path, *, decoder: Decoder = "auto", fps: float | None = None) -> VideoInfo:
    """Return the facts of a video; its first frame is decoded, because headers are often wrong.

    Parameters
    ----------
    path, decoder, fps
        As for `open_video`.

    Raises
    ------
    VideoError, BackendUnavailableError, InvalidParameterError
        As `open_video`.
    """
    with open_video(path, decoder=decoder, fps=fps) as reader:
        return reader.info


def default_decoder() -> tuple[Decoder, str]:
    """Return the decoder that "auto" takes here, and why: `av` where PyAV imports, else `opencv`."""
    try:
        importlib.import_module("flowkit.video.pyav")
    except ImportError as error:
        return "opencv", f"PyAV does not import ({error}): broken packets stay uncounted, AV1 unread"
    return "av", "PyAV is installed: exact times, faults counted packet by packet"


def choose_decoder(decoder: Decoder) -> tuple[Decoder, str]:
    """Return the decoder for a name, and why.

    Raises
    ------
    BackendUnavailableError
        PyAV was asked for and does not import.
    """
    if decoder == "auto":
        return default_decoder()
    if decoder == "av":
        _av_source()
    return decoder, "asked for"


def _source(path: Path, decoder: Decoder, fps: float | None, threads: int, deinterlace: bool) -> Source:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return images.ImageSource(path, fps)
    if not stat.S_ISREG(mode):
        raise UnopenableError(f"{path}: neither a file nor a folder")
    decoder, _ = choose_decoder(decoder)
    if deinterlace:
        check_deinterlace(decoder)
    return CvSource(path, threads) if decoder == "opencv" else _av_source()(path, threads, deinterlace)


def _av_source() -> Callable[[Path, int, bool], Source]:
    try:
        from flowkit.video.pyav import AvSource
    except ImportError as error:
        raise BackendUnavailableError(
            f"decoder 'av' needs PyAV, which does not import: {error}; install `av` or choose 'opencv'"
        ) from error
    return AvSource


def _check_window(start: float | None, end: float | None) -> None:
    for name, seconds in (("start_seconds", start), ("end_seconds", end)):
        if seconds is not None:
            check_range(name, seconds, 0, math.inf, bounds="[)", unit="s")
    if start is not None and end is not None and end <= start:
        raise InvalidParameterError(f"end_seconds must be after start_seconds, got {start} to {end}")


def _at(seconds: float | None, reason: str) -> str:
    return reason if seconds is None else f"at {seconds:.2f} s: {reason}"
