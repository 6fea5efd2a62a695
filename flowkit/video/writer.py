"""Images to a film: h264 in MP4, or a GIF with a palette of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av import VideoFormat, VideoFrame
from av.filter import Graph
from av.video.stream import VideoStream

from flowkit import atomic
from flowkit.errors import InvalidParameterError, VideoError
from flowkit.typing import UInt8
from flowkit.validate import check_choice, check_positive

FILM_SUFFIXES = (".mp4", ".gif")


class _Kind(NamedTuple):
    name: str
    codec: str
    pixel_format: str
    encoder: dict[str, str]
    container: dict[str, str]


_MP4 = _Kind("mp4", "libx264", "yuv420p", {"crf": "18", "preset": "fast"}, {"movflags": "faststart"})
_GIF = _Kind("gif", "gif", "pal8", {}, {})


def write_film(path: Path | str, images: Iterable[UInt8], *, fps: float) -> int:
    """Write images as a film.

    Parameters
    ----------
    path
        The file; its suffix is .mp4 or .gif. A file that is there is replaced.
    images
        uint8 (H, W, 3) RGB, all of one size; both sides even for .mp4. A .gif is held in memory.
    fps
        Images per second, > 0.

    Returns
    -------
    int
        Number of images written.

    Raises
    ------
    InvalidParameterError
        Another suffix, no image, or `fps` not above zero.
    VideoError
        The film cannot be written.
    """
    path = Path(path)
    check_choice("suffix of a film", path.suffix.lower(), FILM_SUFFIXES)
    check_positive("fps", fps)
    rest = iter(images)
    first = next(rest, None)
    if first is None:
        raise InvalidParameterError(f"no image to write to {path}")
    exact_fps = Fraction(fps).limit_denominator(1001)
    frames = _frames(itertools.chain([first], rest), exact_fps)
    try:
        with atomic.replacement(path) as temporary:
            if path.suffix.lower() == ".gif":
                return _encode(temporary, _with_palette(frames, first, exact_fps), exact_fps, _GIF)
            return _encode(temporary, frames, exact_fps, _MP4)
    except av.FFmpegError as error:
        raise VideoError(f"cannot write {path}: {error}") from error


def _encode(path: Path, frames: Iterator[VideoFrame], fps: Fraction, kind: _Kind) -> int:
    count = 0
    head = next(frames)
    with av.open(str(path), "w", format=kind.name, options=kind.container) as film:
        stream = film.add_stream(kind.codec, rate=fps, options=kind.encoder)
        assert isinstance(stream, VideoStream)  # what a video codec makes
        stream.height, stream.width = head.height, head.width
        stream.pix_fmt = kind.pixel_format
        for frame in itertools.chain([head], frames):
            film.mux(stream.encode(frame))
            count += 1
        film.mux(stream.encode(None))
    return count


def _frames(images: Iterable[UInt8], fps: Fraction) -> Iterator[VideoFrame]:
    for k, image in enumerate(images):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = k, 1 / fps
        yield frame


def _with_palette(frames: Iterator[VideoFrame], first: UInt8, fps: Fraction) -> Iterator[VideoFrame]:
    """Yield frames in the 256 colours that suit all of them best."""
    graph = Graph()
    height, width = first.shape[:2]
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=1 / fps)
    split = graph.add("split")
    generate = graph.add("palettegen", "stats_mode=full")
    # Error diffusion crawls from frame to frame and triples the file; an ordered pattern does neither.
    use = graph.add("paletteuse", "dither=bayer:bayer_scale=4:diff_mode=rectangle")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(generate, 1, 0)
    generate.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in frames:
        source.push(frame)
    source.push(None)
    while True:
        try:
            coloured = sink.pull()
        except (av.EOFError, av.BlockingIOError):
            return
        assert isinstance(coloured, VideoFrame)  # what a video filter gives
        yield coloured
