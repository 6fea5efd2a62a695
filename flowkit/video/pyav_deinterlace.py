"""Frames of two moments to frames of one: FFmpeg's bwdif, behind the decoder.

One frame comes out for each that goes in, of the moment of its first field and with its time. Frames that are
not flagged as interlaced stay as they are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Pictured:
    """A decoded frame, for its times and side data, and the frame that has its image."""

    decoded: VideoFrame
    image: VideoFrame


def as_decoded(events: Iterator[VideoFrame | Other]) -> Iterator[Pictured | Other]:
    """Yield each frame as its own image."""
    for event in events:
        yield Pictured(event, event) if isinstance(event, VideoFrame) else event


def deinterlaced(events: Iterator[VideoFrame | Other]) -> Iterator[Pictured | Other]:
    """Yield each frame with its image of one moment, and everything else in its place between them.

    Up to the first frame that is flagged as interlaced nothing is filtered. From then on an image needs the
    frame after it, so that events come one frame later.

    Raises
    ------
    av.error.FFmpegError
        No filter takes the pixel format.
    """
    filtering: _Bwdif | None = None
    waiting: collections.deque[VideoFrame | Other] = collections.deque()
    for event in events:
        if not isinstance(event, VideoFrame):
            if waiting:
                waiting.append(event)
            else:
                yield event
            continue
        if filtering is not None and not filtering.fits(event):
            yield from _paired(waiting, filtering.flush())
            filtering = None
        if filtering is None and event.interlaced_frame:
            filtering = _Bwdif(event)
        if filtering is None:
            yield Pictured(event, event)
            continue
        waiting.append(event)
        yield from _paired(waiting, filtering.push(event))
    if filtering is not None:
        yield from _paired(waiting, filtering.flush())
    # Only frames have images to wait for.
    yield from (event for event in waiting if not isinstance(event, VideoFrame))


def _paired(
    waiting: collections.deque[VideoFrame | Other], images: Iterator[VideoFrame]
) -> Iterator[Pictured | Other]:
    """Yield the events up to and with the frame of each image, and those right behind it."""
    for image in images:
        while waiting:
            event = waiting.popleft()
            if isinstance(event, VideoFrame):
                yield Pictured(event, image)
                break
            yield event
        while waiting and not isinstance(waiting[0], VideoFrame):
            yield waiting.popleft()  # type: ignore[misc]  # no frame, by the line above


class _Bwdif:
    """The filter, for frames like the first."""

    def __init__(self, first: VideoFrame) -> None:
        self._like = _kind(first)
        self._graph = Graph()
        source = self._graph.add(
            "buffer",
            video_size=f"{first.width}x{first.height}",
            pix_fmt=first.format.name,
            time_base=str(first.time_base),
            pixel_aspect="1/1",
            colorspace=str(int(first.colorspace)),
            range=str(int(first.color_range)),
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._sink: FilterContext = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(self._sink)
        self._graph.configure()

    def fits(self, frame: VideoFrame) -> bool:
        """Return whether a frame is of the size, format and colours that the filter was made for."""
        return _kind(frame) == self._like

    def push(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """Take a frame, and yield the images that are done."""
        self._graph.push(frame)
        return self._done()

    def flush(self) -> Iterator[VideoFrame]:
        """Yield the images that are left."""
        self._graph.push(None)
        return self._done()

    def _done(self) -> Iterator[VideoFrame]:
        while True:
            try:
                image = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(image, VideoFrame)  # what a video filter gives
            yield image


def _kind(frame: VideoFrame) -> tuple[int, int, str, int, int]:
    return frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range)
