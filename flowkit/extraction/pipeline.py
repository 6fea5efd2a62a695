"""One video → its committed part: decode ─► resize ─► pairs ─► flow, quantised ─► pack ─► write.

Decoding, resizing and writing run in the calling thread; solving, packing and JPEG
encoding in a pool, as many at once as the worker may use cores. What is in flight is
bounded, so memory does not grow with the video's length. Each stage's work is timed; that of the stage
"resize" is all from the decoder's planes to RGB and grey of the stored size.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import TooShortError, VideoError
from flowkit.extraction.config import BACKWARD
from flowkit.extraction.pool_tasks import IN_PLACE, JpegTask, ThreadLimit
from flowkit.extraction.resume import ResumePoint, is_undisturbed
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.timing import StageClock
from flowkit.frames import LazyFrame, pair_indices, resample_lazy, resize, to_grey
from flowkit.methods.method import Images
from flowkit.resize_rule import ResizeRule
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.schema import StoreOptions, field_names
from flowkit.tvl1.engine import CodesSolver, EngineInfo, FlowCodes, Solver, codes_solver
from flowkit.typing import Decoder, UInt8
from flowkit.video.reader import DecodeReport, VideoInfo, VideoReader, open_video

TINY_PIXELS = 64 * 64
"""Of a frame, up to which a worker with one core works where it decodes: handing it over costs more."""
MAX_CALL_PIXELS = 16_000_000
"""Most pixels of flow that one solver call computes (128 MB of float32 fields)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FieldSolver:
    """An engine, and the flow fields that it computes.

    `images` is the kind of frames that it takes. While `elsewhere()` it computes in another process, on no
    core of this one.
    """

    solver: Solver
    fields: tuple[str, ...] = ("flow",)
    images: Images = "grey"
    elsewhere: Callable[[], bool] = lambda: False

    def pairs(self, forward: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the pairs to compute for all fields, (fields x pairs, 2), field by field."""
        return np.concatenate([forward[:, ::-1] if name == BACKWARD else forward for name in self.fields])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PipelineConfig:
    """The choices that decide a video's part, and the engines of its fields.

    `fps` resamples by time (frames per second; those of a folder of images); `deinterlace` makes interlaced
    frames those of one moment.
    """

    options: StoreOptions
    resize: ResizeRule
    solvers: tuple[FieldSolver, ...]
    decoder: Decoder = "auto"
    fps: float | None = None
    deinterlace: bool = False

    @property
    def pairs_per_call(self) -> int:
        """Number of pairs of consecutive frames that suits the engines best."""
        return max(one.solver.pairs_per_call for one in self.solvers)

    @property
    def images(self) -> frozenset[Images]:
        """The kinds of frames that the engines take."""
        return frozenset(one.images for one in self.solvers)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """Facts of a video, known once the decoder is at its end."""

    info: VideoInfo
    report: DecodeReport
    n_frames: int
    n_flow: int
    fps: float
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Frame k of a video and the flow of the pair that it begins.

    `flows` has one encoded field per flow field of the store; it is empty for the last `step`
    frames. `jpeg` is None in a store without frames. `engines` computed the flow.
    """

    pts_seconds: float
    jpeg: bytes | None
    flows: tuple[EncodedFlow, ...]
    engines: tuple[EngineInfo, ...] = ()


class Sink(Protocol):
    """Takes a video's items in order."""

    @property
    def committed(self) -> int:
        """Return the number of leading frames that it has already and takes no more."""

    def resume_point(self) -> ResumePoint | None:
        """Return where the video is resumed by a seek behind those frames; None: from its beginning."""

    def open_video(self, *, width: int, height: int) -> None:
        """Take the size of the frames, px, before the first item."""

    def add(self, item: Item, *, undisturbed: bool = False) -> None:
        """Append the next frame and its flow; see `flowkit.extraction.resume.UNDISTURBED`."""


_Solved: TypeAlias = tuple[tuple[EngineInfo, ...], list[tuple[EncodedFlow, ...]]]
"""The engines that computed, and for each pair one encoded flow per field."""


@dataclasses.dataclass(slots=True)
class _Chunk:
    """Some consecutive frames, whose flow one call of each solver computes."""

    pts: list[float]
    jpegs: list[tuple[JpegTask, int]]
    flows: Future[_Solved] | None = None


class Pipeline:
    """Extract one video into a sink.

    Parameters
    ----------
    source : VideoSource
        The video.
    config : PipelineConfig
        Contents and engine.
    threads : callable
        Called as `threads()`: returns the number of cores that this video may use now.
    max_threads : int
        The most that `threads()` ever returns.
    """

    def __init__(
        self,
        source: VideoSource,
        config: PipelineConfig,
        *,
        threads: Callable[[], int] = lambda: 1,
        max_threads: int = 1,
    ) -> None:
        self.source = source
        self.config = config
        self.clock = StageClock()
        self._engines = [(one, codes_solver(one.solver)) for one in config.solvers]
        self._threads = threads
        self._cores = ThreadLimit(threads)
        self._pool = ThreadPoolExecutor(max_workers=max_threads)
        self._chunks: collections.deque[_Chunk] = collections.deque()
        self._size: tuple[int, int] | None = None
        self._converter: object = None
        self._latest: UInt8
        # The number of frames before the reader, and the time of the video's first, in seconds.
        self._begin = (0, 0.0)
        self._report = DecodeReport()
        self._notes: list[str] = []
        self._on_beat: Callable[[], None] = lambda: None
        # Consecutive frames that a pair still needs, of each kind that an engine takes, and the open chunk.
        self._frames: dict[Images, list[UInt8]] = {kind: [] for kind in config.images}
        self._open, self._jpegs = _Chunk([], []), JpegTask()

    def run(
        self,
        sink: Sink,
        on_progress: Callable[[int, float], None],
        on_beat: Callable[[], None] = lambda: None,
    ) -> Decoded:
        """Extract the video; the sink has every frame and field afterwards, not yet committed.

        Parameters
        ----------
        sink : Sink
            Takes frames and fields in order; those before `sink.committed` are skipped or decoded only.
        on_progress : callable
            Called with the number of frames decoded and the fraction of the video, in [0, 1].
        on_beat : callable
            Called when the flow of some pairs is done: the decoder may be through long before.

        Raises
        ------
        VideoError
            The video cannot be opened or decoded, or has no pair of frames.
        NoSpaceError
            The disk is full.
        """
        self._on_beat = on_beat
        try:
            with self._opened(sink) as reader:
                self._report = reader.report
                count = self._decode(reader, sink, on_progress)
                self._finish(sink, count, reader.info.header_seconds)
                return self._decoded(reader, count)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _opened(self, sink: Sink) -> VideoReader:
        """Open the video behind the sink's frames, where that seek can be checked; else at its beginning."""
        source, config = self.source, self.config
        opened = functools.partial(
            open_video, source.path, decoder=config.decoder, fps=config.fps, deinterlace=config.deinterlace
        )
        whole = config.fps is None and source.start_seconds is None and source.end_seconds is None
        if whole and (point := sink.resume_point()) is not None:
            with contextlib.suppress(VideoError), contextlib.ExitStack() as stack:
                reader = stack.enter_context(
                    opened(start_seconds=point.times[0], frames_before=point.frames_before)
                )
                if point.matches(reader.lazy(), functools.partial(self._jpeg_of, reader)):
                    stack.pop_all()
                    assert self._size is not None, "frames were compared at the stored size"
                    sink.open_video(width=self._size[0], height=self._size[1])
                    self._begin = (point.n_frames, point.first_seconds)
                    return reader
            self._size, self._converter, self._notes = None, None, []
        return opened(start_seconds=source.start_seconds, end_seconds=source.end_seconds)

    def _jpeg_of(self, reader: VideoReader, frame: LazyFrame) -> bytes | None:
        return self._encode_frames([self._rgb(reader, frame, self._target_size(reader, frame, 0))])[0]

    def _decode(self, reader: VideoReader, sink: Sink, on_progress: Callable[[int, float], None]) -> int:
        frames: Iterator[LazyFrame] = reader.lazy()
        if self.config.fps is not None:
            frames = resample_lazy(frames, self.config.fps)
        whole = reader.info.header_seconds or 0.0
        count, first_pts = self._begin
        while True:
            with self.clock.stage("decode"):
                frame = next(frames, None)
            if frame is None:
                return count
            first_pts = frame.pts_seconds if count == 0 else first_pts
            self._push(reader, frame, count, sink)
            count += 1
            fraction = (frame.pts_seconds - first_pts) / whole if whole > 0 else 0.0
            on_progress(count, min(max(fraction, 0.0), 1.0))

    def _push(self, reader: VideoReader, frame: LazyFrame, index: int, sink: Sink) -> None:
        width, height = self._target_size(reader, frame, index)
        if index == 0:
            sink.open_video(width=width, height=height)
        if index < sink.committed:
            return
        with self.clock.stage("resize"):
            rgb = self._rgb(reader, frame, (width, height))
            for kind, kept in self._frames.items():
                kept.append(to_grey(rgb) if kind == "grey" else rgb)
        self._open.pts.append(frame.pts_seconds)
        self._open.jpegs.append((self._jpegs, len(self._jpegs.rgbs)))
        self._jpegs.rgbs.append(rgb)
        if self._jpegs.is_full:
            self._submit_jpegs()
        pairs = len(self._open.pts) - self.config.options.step
        if pairs >= self._pairs_per_call():
            self._submit(pairs)
            self._drain(sink, keep=2 * self._threads() + 1)

    def _rgb(self, reader: VideoReader, frame: LazyFrame, size: tuple[int, int]) -> UInt8:
        """Return a frame as it is stored; one that `fps` repeats is converted once."""
        if frame.to_rgb is not self._converter:
            rule = self.config.resize
            if rule.scaler == "swscale" and reader.scales:
                self._latest = frame.to_rgb(size)
            else:
                self._latest = resize(frame.to_rgb(None), size, rule.interpolation)
            self._converter = frame.to_rgb
        return self._latest

    def _target_size(self, reader: VideoReader, frame: LazyFrame, index: int) -> tuple[int, int]:
        """Return the stored (width, height): the first frame decides, later ones follow it."""
        width, height = frame.width, frame.height
        if self._size is None:
            self._source_size = (width, height)
            self._size = self.config.resize.target_size(width, height, reader.info.pixel_aspect)
        elif (width, height) != self._source_size:
            was_w, was_h = self._source_size
            self._notes.append(f"size changes from {was_w}x{was_h} to {width}x{height} at frame {index}")
            self._source_size = (width, height)
        return self._size

    def _pairs_per_call(self) -> int:
        """Return the engines' own number, less for frames so large that a call would hold gigabytes."""
        return max(1, min(self.config.pairs_per_call, MAX_CALL_PIXELS // math.prod(self._size or ())))

    def _where(self) -> Executor:
        tiny = math.prod(self._size or ()) <= TINY_PIXELS and self._threads() == 1
        return IN_PLACE if tiny and not any(one.elsewhere() for one in self.config.solvers) else self._pool

    def _submit_jpegs(self) -> None:
        self._jpegs.submit(self._where(), self._encode_frames)
        self._jpegs = JpegTask()

    def _encode_frames(self, rgbs: list[UInt8]) -> list[bytes | None]:
        if self.config.options.frame_codec == "none":
            return [None] * len(rgbs)
        with self._cores, self.clock.stage("jpeg"):
            return [jpeg.encode(rgb, self.config.options.jpeg_quality) for rgb in rgbs]

    def _submit(self, pairs: int) -> None:
        """Submit the first `pairs` pairs to the pool; keep the frames that later pairs need."""
        self._submit_jpegs()
        frames = {kind: np.stack(kept) for kind, kept in self._frames.items()}
        chunk = _Chunk(self._open.pts[:pairs], self._open.jpegs[:pairs])
        chunk.flows = self._where().submit(self._solve, frames, pairs)
        self._chunks.append(chunk)
        self._frames = {kind: kept[pairs:] for kind, kept in self._frames.items()}
        self._open = _Chunk(self._open.pts[pairs:], self._open.jpegs[pairs:])

    def _solve(self, frames: dict[Images, UInt8], pairs: int) -> _Solved:
        forward = pair_indices(pairs + self.config.options.step, self.config.options.step)
        engines: dict[EngineInfo, None] = {}
        coded: dict[str, list[EncodedFlow]] = {}
        for one, engine in self._engines:
            made = self._codes(one, engine, frames[one.images], one.pairs(forward))
            engines.setdefault(made.engine or EngineInfo.of(one.solver))
            encoded = self._encode(made)
            coded |= {name: encoded[k * pairs : (k + 1) * pairs] for k, name in enumerate(one.fields)}
        fields = [coded[name] for name in field_names(self.config.options)]
        return tuple(engines), list(zip(*fields, strict=True))

    def _codes(
        self, one: FieldSolver, engine: CodesSolver, frames: UInt8, pairs: NDArray[np.int64]
    ) -> FlowCodes:
        # An engine elsewhere leaves this worker's cores to the encoders.
        with contextlib.nullcontext() if one.elsewhere() else self._cores:
            made = engine.codes_batch(frames, pairs, quantizer=self.config.options.codec.quantizer)
        self.clock.add(made.seconds)
        return made

    def _encode(self, made: FlowCodes) -> list[EncodedFlow]:
        codec = self.config.options.codec
        with self._cores, self.clock.stage("encode"):
            return [codec.encode_codes(field) for field in made.fields()]

    def _drain(self, sink: Sink, keep: int) -> None:
        """Write the oldest chunks until `keep` are in flight: the pipeline's back-pressure."""
        while len(self._chunks) > keep:
            chunk = self._chunks.popleft()
            engines, flows = chunk.flows.result() if chunk.flows is not None else ((), [()] * len(chunk.pts))
            jpegs = [several.result(position) for several, position in chunk.jpegs]
            with self.clock.stage("write"):
                undisturbed = not self._notes and is_undisturbed(self._report)
                for pts, data, fields in zip(chunk.pts, jpegs, flows, strict=True):
                    item = Item(pts_seconds=pts, jpeg=data, flows=fields, engines=engines)
                    sink.add(item, undisturbed=undisturbed)
            self._on_beat()

    def _finish(self, sink: Sink, count: int, header_seconds: float | None) -> None:
        step, start = self.config.options.step, self.source.start_seconds
        if count == 0 and start:
            length = f", which is {header_seconds:.2f} s long" if header_seconds else ""
            raise TooShortError(f"the start at {start:g} s is beyond the end of the video{length}")
        if count <= step:
            raise TooShortError(
                f"{count} frame{'s' if count != 1 else ''} decoded, a pair of step {step} needs {step + 1}"
            )
        pairs = len(self._open.pts) - step
        if pairs > 0:
            self._submit(pairs)
        self._submit_jpegs()
        # The last `step` frames begin no pair.
        self._chunks.append(self._open)
        self._drain(sink, keep=0)

    def _decoded(self, reader: VideoReader, count: int) -> Decoded:
        report, info = reader.report, reader.info
        fps = self.config.fps or info.fps
        return Decoded(
            info=info,
            report=report,
            n_frames=count,
            n_flow=count - self.config.options.step,
            fps=fps,
            notes=(*self._notes, *report.notes),
        )
