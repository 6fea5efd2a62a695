"""PyAV's side of `flowkit.video.reader`: streams, packets, times and colours by FFmpeg.

FFmpeg's messages stay silent: PyAV drops them unless `av.logging` is set otherwise.
"""

from __future__ import annotations

import gc
import itertools
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import av.error
from av.buffer import Buffer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from flowkit.errors import DecodeError, FlowkitError
from flowkit.typing import UInt8
from flowkit.video.container import container_orientations, fitting, of_packet
from flowkit.video.orientation import UPRIGHT, Orientation, of_matrix, right_angle
from flowkit.video.pyav_colour import RgbConverter, unlike_opencv
from flowkit.video.pyav_deinterlace import Pictured, as_decoded, deinterlaced
from flowkit.video.pyav_file import best_stream, message, open_container
from flowkit.video.pyav_header import (
    CONTAINERS_WITH_A_LENGTH,
    expected_packets,
    frame_rate,
    header_frames,
    header_seconds,
)
from flowkit.video.source import (
    COMPLETE_FRACTION,
    DEFAULT_FPS,
    LONGEST_GAP_OF_A_TIME_AXIS_SECONDS,
    LONGEST_GAP_SECONDS,
    DecodedFrame,
    Fault,
    VideoInfo,
    seconds_missing,
    upright_pixel_aspect,
)

T = TypeVar("T", VideoFrame, DecodedFrame)

# A demuxer that fails this often in a row without giving a packet is stuck.
MAX_READ_FAULTS = 32

# Behind a seek these give the same times as from the beginning. MPEG program streams are a frame
# off there, since one packet of theirs holds several frames and one time.
SEEKABLE_CONTAINERS = frozenset({"mov", "matroska", "avi"})

# Seconds before the start asked for to seek to, in turn, until a key frame is before it.
SEEK_MARGINS = (0.0, 5.0, 30.0)


class AvSource:
    """A file opened with PyAV; see `flowkit.video.source.Source`.

    Parameters
    ----------
    path
        An existing file.
    threads
        Decoding threads; 0 lets FFmpeg choose.
    deinterlace
        Make interlaced frames those of one moment.

    Raises
    ------
    UnopenableError, NoVideoStreamError, DecodeError
        The message has the cause; the last if not one frame decodes.
    """

    scales, keeps_frames = True, True

    def __init__(self, path: Path, threads: int, deinterlace: bool = False) -> None:
        self._path = path
        self._deinterlace = deinterlace
        self._threads = threads
        self._last_orientation, self._last_angle, self._after_key = UPRIGHT, 0, False
        self._rgb = RgbConverter(path)
        self._open()
        try:
            self._prime()
        except BaseException:  # Ctrl-C too: nothing stays open
            self.close()
            raise

    def events(self, start_seconds: float | None) -> Iterator[DecodedFrame | Fault]:
        """Decode from a key frame at or before `start_seconds`, or from the beginning."""
        if start_seconds is not None and start_seconds > 0:
            return self._events_from(start_seconds)
        return self._decoded_frames(itertools.chain(self._primed, self._decoding))

    def shortfall(self, frames: int, end_seconds: float, unread: int) -> str:
        """Return the evidence that the video is cut short."""
        info, begin, end = self.info, self.info.origin_seconds, self._end_ticks * self._tick
        if expected := self._expected_packets:
            # AVI counts a frame that is shown longer as often as it is shown, without a packet for it.
            shown = round((end - begin) * info.fps) if "avi" in self._kinds else 0
            read = max(self._packets_read + unread, shown)
            short = read < COMPLETE_FRACTION * expected
            return f"{read} of the {expected} frames that its header counts" if short else ""
        if info.header_seconds is None or self._kinds.isdisjoint(CONTAINERS_WITH_A_LENGTH):
            return ""
        # Some writers give the end, others the length: a header shorter than the beginning gives the length.
        end = max(end, begin + end_seconds)
        covered = end if begin < info.header_seconds else end - begin
        return seconds_missing(covered, info.header_seconds, info.fps)

    def close(self) -> None:
        """Close the file."""
        self._primed: list[VideoFrame | Fault] = []
        self._container.close()

    def _open(self) -> None:
        self._container = open_container(self._path)
        try:
            self._stream = best_stream(self._container, self._path)
        except BaseException:  # Ctrl-C too: nothing stays open
            self._container.close()
            raise
        self._stream.codec_context.thread_count = self._threads
        if self._threads != 1:
            self._stream.thread_type = "AUTO"
        self._packets_read = 0
        self._end_ticks = self._stream.start_time or 0
        self._expected_packets = expected_packets(self._container, self._stream)
        self._first_packet = b""
        self._asked: tuple[Orientation | None, ...] | None = None

    def _prime(self) -> None:
        """Decode up to the first frame: only it has the true size and the rotation."""
        self._tick = float(self._stream.time_base or 1 / DEFAULT_FPS)
        self._origin = self._stream.start_time or 0
        self._decoding = self._decode()
        self._primed, first = _up_to(VideoFrame, self._decoding)
        if first is None:
            faults = [event.reason for event in self._primed if isinstance(event, Fault)]
            cause = (
                f"{len(faults)} packets fail, the first with: {faults[0]}" if faults else "it has no frames"
            )
            raise DecodeError(f"{self._path}: no frame of the video stream decodes: {cause}")
        if self._stream.start_time is None:
            self._origin = next((ticks for ticks in (first.pts, first.dts) if ticks is not None), 0)
        self.info = self._describe(first)

    def _events_from(self, start_seconds: float) -> Iterator[DecodedFrame | Fault]:
        for aim in (start_seconds - margin for margin in SEEK_MARGINS):
            if aim <= 0 or self._kinds.isdisjoint(SEEKABLE_CONTAINERS) or not self._seek(aim):
                break
            events = self._decoded_frames(self._decode())
            head, first = _up_to(DecodedFrame, events)
            if first is not None and first.seconds is not None and first.seconds <= start_seconds:
                return itertools.chain(head, events)
        # A file without an exact seek is decoded from its beginning.
        self.close()
        self._open()
        return self._decoded_frames(self._decode())

    @property
    def notes(self) -> list[str]:
        """Remarks on the video."""
        return self._rgb.notes

    @property
    def longest_gap_seconds(self) -> float:
        """The longest gap between two frames that is taken for true."""
        own_axis = not self._kinds.isdisjoint(SEEKABLE_CONTAINERS)
        return LONGEST_GAP_OF_A_TIME_AXIS_SECONDS if own_axis else LONGEST_GAP_SECONDS

    @property
    def _kinds(self) -> set[str]:
        return set(self._container.format.name.split(","))

    def _seek(self, seconds: float) -> bool:
        try:
            ticks = self._origin + int(seconds / self._tick)
            self._container.seek(ticks, stream=self._stream, backward=True)
        except av.error.FFmpegError:
            return False
        self._packets_read = 0
        return True

    def _decode(self) -> Iterator[VideoFrame | Fault]:
        # None at the end empties the decoder, should the demuxer not have lived to do it.
        for packet in itertools.chain(self._packets(), [None]):
            if isinstance(packet, Fault):
                yield packet
                continue
            if packet is not None:
                self._note_packet(packet)
            try:
                yield from self._stream.decode(packet)
            except av.error.EOFError:
                continue  # emptied before
            except av.error.FFmpegError as error:
                yield Fault(
                    seconds=self._seconds(None if packet is None else packet.pts), reason=message(error)
                )

    def _note_packet(self, packet: Packet[VideoStream]) -> None:
        if not packet.size and packet.pts is None and packet.dts is None:
            return  # the one that empties the decoder
        if not self._first_packet:
            self._first_packet = bytes(packet)
        self._packets_read += 1
        begin = packet.dts if packet.pts is None else packet.pts
        if begin is not None:
            self._end_ticks = max(self._end_ticks, begin + (packet.duration or 0))

    def _packets(self) -> Iterator[Packet[VideoStream] | Fault]:
        """Yield this stream's packets, and a fault for each that cannot be read."""
        faults = 0
        demuxing = self._container.demux(self._stream)
        while faults < MAX_READ_FAULTS:
            try:
                packet = next(demuxing)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                faults += 1
                yield Fault(seconds=None, reason=f"reading: {message(error)}")
                demuxing = self._container.demux(self._stream)  # a generator that raised is spent
            else:
                faults = 0
                yield packet

    def _decoded_frames(self, decoding: Iterator[VideoFrame | Fault]) -> Iterator[DecodedFrame | Fault]:
        times, cycles = _BestTimes(prefer_dts="avi" in self._kinds), FrameCycles()
        for pictured in self._pictured(decoding):
            if isinstance(pictured, Fault):
                yield pictured
                continue
            event, image = pictured.decoded, pictured.image
            ticks = times.choose(event.pts, event.dts)
            if self._may_turn(event):
                self._last_orientation = self._orientation(event, self._last_orientation)
                cycles.add()
            cycles.pass_by()
            width, height = self._last_orientation.size_of(event.width, event.height)
            yield DecodedFrame(
                seconds=self._seconds(ticks),
                width=width,
                height=height,
                to_rgb=partial(self._to_rgb, image, self._last_orientation),
                repaired=ticks is None or ticks != event.pts,
                damaged=event.is_corrupt,
                interlaced=image.interlaced_frame,
            )

    def _pictured(self, decoding: Iterator[VideoFrame | Fault]) -> Iterator[Pictured | Fault]:
        try:
            yield from deinterlaced(decoding) if self._deinterlace else as_decoded(decoding)
        except av.error.FFmpegError as error:  # the decoder's own are faults by now
            raise DecodeError(f"{self._path}: its frames do not deinterlace: {message(error)}") from error

    def _seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None else (ticks - self._origin) * self._tick

    def _to_rgb(self, frame: VideoFrame, orientation: Orientation, size: tuple[int, int] | None) -> UInt8:
        if size is None:
            return orientation.upright(self._rgb.convert(frame))
        return orientation.upright(self._rgb.scale(frame, orientation.size_of(*size)))

    def _may_turn(self, frame: VideoFrame) -> bool:
        """Return whether a frame's orientation may be another than that of the one before it.

        Side data are not asked of every frame, since one that was is not freed at once; see `FrameCycles`.
        """
        is_key, angle = frame.key_frame, frame.rotation
        may_turn = angle != self._last_angle or (is_key and not self._after_key)
        self._after_key, self._last_angle = is_key, angle
        return may_turn

    def _orientation(self, frame: VideoFrame, before: Orientation) -> Orientation:
        """Return a frame's orientation; without a matrix of its own that of the frame before it.

        H.264's message of it stands at key frames alone.
        """
        # `frame.rotation` is the angle alone, which a mirror falsifies.
        try:
            matrix = cast("Mapping[object, Buffer]", frame.side_data)[SideDataType.DISPLAYMATRIX]
        except KeyError:
            return before
        except ValueError:
            # PyAV 18 gives no side data of a frame that has some unknown to it: a JPEG's EXIF, a second view.
            return self._orientation_by_bytes(right_angle(-frame.rotation))
        return of_matrix(struct.unpack("=9i", bytes(matrix)))

    def _orientation_by_bytes(self, angle: int) -> Orientation:
        if self._asked is None:
            tracks = container_orientations(self._path)
            index = self._stream.index
            self._asked = (of_packet(self._first_packet), *tracks[index : index + 1])
        return fitting(angle, self._asked)

    def _describe(self, first: VideoFrame) -> VideoInfo:
        stream = self._stream
        orientation = self._last_orientation = self._orientation(first, UPRIGHT)
        width, height = orientation.size_of(first.width, first.height)
        return VideoInfo(
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            width=width,
            height=height,
            rotation=orientation.rotation,
            mirrored=orientation.mirrored,
            pixel_aspect=upright_pixel_aspect(float(stream.sample_aspect_ratio or 1), orientation),
            interlaced=first.interlaced_frame,
            fps=frame_rate(stream),
            header_frames=header_frames(stream),
            header_seconds=header_seconds(self._container, stream),
            stream_index=stream.index,
            container=self._container.format.name,
            origin_seconds=self._origin * self._tick,
            decoder="av",
        )


def first_frame_unlike_opencv(path: Path) -> str:
    """Return the words for a first frame that OpenCV gives with other pixels; "" for others."""
    try:
        with open_container(path) as container:
            frame = next(container.decode(best_stream(container, path)), None)
    except (FlowkitError, av.error.FFmpegError):
        return ""
    return "" if frame is None else unlike_opencv(frame)


class FrameCycles:
    """Frees frames that were asked for their side data: PyAV's refer to each other, in a cycle.

    Python would look for cycles hundreds of megabytes of large frames later. A look at the youngest objects
    alone takes some 20 us, and finds such a frame if nobody holds it any more: some frames later.
    """

    _LATER, _MOST = 3, 16

    def __init__(self) -> None:
        self._waiting, self._passed = 0, 0

    def add(self) -> None:
        """Note that a frame was asked."""
        self._waiting += 1
        self._passed = 0

    def pass_by(self) -> None:
        """Note that a frame went by."""
        self._passed += 1
        if self._waiting and (self._passed > self._LATER or self._waiting >= self._MOST):
            gc.collect(0 if self._waiting < self._MOST else 1)
            self._waiting = 0


class _BestTimes:
    """Choice between a frame's presentation and decoding time: the one that ran backwards less.

    Source: FFmpeg's documented meaning of `AVFrame.best_effort_timestamp`, with one deviation:
    on a draw AVI takes the decoding time, since it stores no other and what FFmpeg derives from
    packed B-frames (UCF101's XviD files) runs 1, 2, 4, 3.
    """

    def __init__(self, *, prefer_dts: bool) -> None:
        self._lead = 1 if prefer_dts else 0
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}

    def choose(self, pts: int | None, dts: int | None) -> int | None:
        self._note("pts", pts)
        self._note("dts", dts)
        if pts is None or dts is None:
            return dts if pts is None else pts
        return pts if self._faults["pts"] + self._lead <= self._faults["dts"] else dts

    def _note(self, kind: str, ticks: int | None) -> None:
        if ticks is None:
            return
        self._faults[kind] += ticks <= self._last.get(kind, ticks - 1)
        self._last[kind] = ticks


def _up_to(kind: type[T], events: Iterator[T | Fault]) -> tuple[list[T | Fault], T | None]:
    """Return the events up to the first that is no fault, and that one; None where none comes."""
    head: list[T | Fault] = []
    for event in events:
        head.append(event)
        if isinstance(event, kind):
            return head, event
    return head, None
