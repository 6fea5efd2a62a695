"""The work on one folder of raw frames in a worker process: read, check, commit a part."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from flowkit import jpeg
from flowkit.errors import JpegError, StoreCorruptError
from flowkit.executor import Worker
from flowkit.extraction.plan import fingerprint
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.quantize import U8_LEVELS, dequantize_u8
from flowkit.rawframes.frame_files import FolderError, FrameFile
from flowkit.rawframes.inspection import ClipFiles, FilePair, Pairing, inspect
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD, Kind, Layout
from flowkit.rawframes.listed import WHOLE, Wanted
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import (
    DecodeStatus,
    FlowRange,
    SolverRecord,
    SourceFingerprint,
    SourceShape,
    StoredVideoShape,
    TimeRange,
    VideoRecord,
)
from flowkit.store.schema import StoreOptions, field_names
from flowkit.store.write.part import PartWriter
from flowkit.typing import UInt8

IMPORTED = "imported"
"""Preset, engine and resize rule of an imported store."""

_FLOW_QUALITY = 100
"""JPEG quality of flow images that are no JPEG: codes stay within a few of 255."""

_UNKNOWN = (
    "imported from folders of layout {layout}: solver, its parameters and version, size of the source, and "
    "times are not known; clipped_fraction counts the codes 0 and 255, which clipped values have"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportTask:
    """One folder to import, with all that a worker needs."""

    source: VideoSource
    store: Path
    options: StoreOptions
    layouts: tuple[Layout, ...]
    fps: float
    pairing: Pairing
    wanted: Wanted = WHOLE
    trees: Mapping[Kind, Path] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class _Seen:
    """Sums over the flow of a clip."""

    largest_px: float = 0.0
    saturated: int = 0
    values: int = 0
    frames_encoded: Counter[str] = dataclasses.field(default_factory=Counter)
    flow_encoded: Counter[str] = dataclasses.field(default_factory=Counter)
    """Images that were no JPEG, by suffix."""
    largest_change: int = 0
    """Of a flow code by its encoding as JPEG."""

    def notes(self, quality: int) -> Iterator[str]:
        """Yield a sentence for each kind of images that had to be encoded."""
        if self.frames_encoded:
            yield f"{_counted(self.frames_encoded)} frames are stored as JPEG of quality {quality}"
        if self.flow_encoded:
            yield (
                f"{_counted(self.flow_encoded)} flow images are stored as JPEG of quality {_FLOW_QUALITY}, "
                f"which changes codes by {self.largest_change} of {U8_LEVELS} at most"
            )


def _counted(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def import_clip(task: ImportTask, worker: Worker) -> VideoOutcome:
    """Import one folder and commit its part.

    Raises
    ------
    FolderError
        Files are missing, broken or of unlike sizes, or fewer or more than a list says.
    OSError
        The folder or a file cannot be read.
    NoSpaceError
        The disk is full.
    """
    began = time.perf_counter()
    source, options = task.source, task.options
    files = _files(task)
    state = fingerprint(source.path, *source.beside)
    parts, seen = PartsFolder(task.store), _Seen()
    size = _size_of(files.flow[0][0])
    first = task.wanted.frames.first if task.wanted.frames else 0
    height, width = size
    with PartWriter(
        parts.part_path(source.video_id),
        video_id=source.video_id,
        options=options,
        width=width,
        height=height,
    ) as writer:
        n_frames = len(files.flow) + options.step
        for index in range(n_frames):
            frame = _frame(files.frames[index], size, options, seen) if files.frames else None
            writer.add_frame((first + index) / task.fps, frame)
            if index < len(files.flow):
                writer.add_flow("flow", _field(files.flow[index], size, options, seen))
            if index < len(files.backward):
                writer.add_flow(BACKWARD_FIELD, _field(files.backward[index], size, options, seen))
            worker.report(index + 1, (index + 1) / n_frames)
        notes = tuple(filter(None, (files.note, *seen.notes(options.jpeg_quality))))
        record = _record(task, files, state, seen, size=size, notes=notes)
        writer.commit(record)
    return VideoOutcome(
        video_id=source.video_id,
        source=str(source.path),
        status="stored",
        label=source.label,
        n_frames=record.n_frames,
        n_flow=record.n_flow,
        seconds=time.perf_counter() - began,
        warnings=notes,
    )


def _files(task: ImportTask) -> ClipFiles:
    """Return the files of the clip, of those frames that the list wants."""
    step, wanted = task.options.step, task.wanted
    files = inspect(
        task.source.path,
        task.layouts,
        step=step,
        frames=task.options.frame_codec == "jpeg",
        pairing=task.pairing,
        backward=BACKWARD_FIELD in field_names(task.options),
        trees=task.trees,
    )
    n_flow, n_frames = len(files.flow), len(files.flow) + step
    # Lists for flow have the number of fields.
    if wanted.n_frames not in (None, n_frames, n_flow):
        raise FolderError(
            "false_count",
            f"the list says {wanted.n_frames} frames, the clip has {n_frames} and {n_flow} flow fields; "
            "correct the list, or say with --list-columns which column is what",
        )
    return files if wanted.frames is None else files.part(wanted.frames, step)


def _frame(file: FrameFile, size: tuple[int, int], options: StoreOptions, seen: _Seen) -> bytes:
    """Return the bytes of a frame that decodes and has this (height, width); encoded if it is no JPEG."""
    data = file.read_bytes()
    with _named(file):
        if jpeg.is_jpeg(data):
            _check_size(file, jpeg.size(data), size)
            _check_size(file, jpeg.decode(data).shape[:2], size)
            return data
        pixels = jpeg.decode_other(data, grey=False)
    _check_size(file, pixels.shape[:2], size)
    seen.frames_encoded[Path(file.name).suffix] += 1
    return jpeg.encode(pixels, options.jpeg_quality)


def _field(pair: FilePair, size: tuple[int, int], options: StoreOptions, seen: _Seen) -> EncodedFlow:
    """Return the two images of a flow field as they are stored; add their range to `seen`."""
    chunks = []
    for file in pair:
        data, codes = _plane(file, size, seen)
        ends = dequantize_u8(np.array([codes.min(), codes.max()]), bound_px=options.bound_px)
        seen.largest_px = max(seen.largest_px, float(np.abs(ends).max()))
        seen.saturated += int(np.count_nonzero((codes == 0) | (codes == U8_LEVELS)))
        seen.values += codes.size
        chunks.append(data)
    x, y = chunks
    return options.codec.packed((x, y), largest_px=seen.largest_px, clipped=0)


def _plane(file: FrameFile, size: tuple[int, int], seen: _Seen) -> tuple[bytes, UInt8]:
    """Return the JPEG of one component of a flow field and its codes; encoded if it is none."""
    data = file.read_bytes()
    with _named(file):
        if jpeg.is_jpeg(data):
            _check_size(file, jpeg.size(data), size)
            codes = jpeg.decode_grey(data)
            _check_size(file, codes.shape, size)
            return data, codes
        codes = jpeg.decode_other(data, grey=True)
    _check_size(file, codes.shape[:2], size)
    data = jpeg.encode_grey(codes, _FLOW_QUALITY)
    stored = jpeg.decode_grey(data)
    seen.flow_encoded[Path(file.name).suffix] += 1
    change = np.abs(stored.astype(np.int16) - codes.astype(np.int16))
    seen.largest_change = max(seen.largest_change, int(change.max()))
    return data, stored


def _size_of(file: FrameFile) -> tuple[int, int]:
    """Return the (height, width) of an image file."""
    data = file.read_bytes()
    with _named(file):
        if jpeg.is_jpeg(data):
            return jpeg.size(data)
        height, width = jpeg.decode_other(data, grey=True).shape[:2]
    return height, width


def _check_size(file: FrameFile, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise FolderError(
            "size_mismatch",
            f"{file} is {found[1]}x{found[0]}, the first flow image {size[1]}x{size[0]}; "
            "frames and flow of a clip must have one size",
        )


@contextlib.contextmanager
def _named(file: FrameFile) -> Iterator[None]:
    """Raise FolderError with the file's name where it does not decode."""
    try:
        yield
    except (JpegError, StoreCorruptError) as error:
        kind = "JPEG" if file.name.lower().endswith((".jpg", ".jpeg")) else "image"
        raise FolderError("decode_error", f"{file} is no sound {kind}: {error}") from error


def _record(
    task: ImportTask,
    files: ClipFiles,
    state: SourceFingerprint,
    seen: _Seen,
    *,
    size: tuple[int, int],
    notes: Sequence[str],
) -> VideoRecord:
    height, width = size
    return VideoRecord.of(
        task.source.video_id,
        label=task.source.label,
        stored=StoredVideoShape(
            width=width,
            height=height,
            fps=task.fps,
            n_frames=len(files.flow) + task.options.step,
            n_flow=len(files.flow),
        ),
        source=state,
        source_shape=SourceShape(source_width=width, source_height=height),
        solver=SolverRecord(backend=IMPORTED, deviations=_UNKNOWN.format(layout=task.layouts[0].name)),
        decoding=DecodeStatus(status_reason="; ".join(notes)),
        flow_range=FlowRange(
            clipped_fraction=seen.saturated / max(1, seen.values), flow_max_px=seen.largest_px
        ),
        times=TimeRange(start_seconds=task.source.start_seconds, end_seconds=task.source.end_seconds),
    )
