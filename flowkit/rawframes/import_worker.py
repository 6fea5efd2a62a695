"""The work on one folder of raw frames in a worker process: read, check, commit a part."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from flowkit import jpeg
from flowkit.errors import JpegError, StoreCorruptError
from flowkit.executor import Worker
from flowkit.extraction.plan import fingerprint
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.quantize import U8_LEVELS, dequantize_u8
from flowkit.rawframes.folders import ClipFiles, FolderError, Pairing, inspect
from flowkit.rawframes.layouts import Layout
from flowkit.store.codecs.jpeg import jpeg_size
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.record import (
    DecodeStatus,
    FlowRange,
    SolverRecord,
    SourceFingerprint,
    SourceShape,
    StoredVideoShape,
    VideoRecord,
)
from flowkit.store.schema import StoreOptions
from flowkit.store.write.part import PartWriter

IMPORTED = "imported"
"""Preset, engine and resize rule of an imported store."""

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


@dataclasses.dataclass(slots=True)
class _Seen:
    """Sums over the flow of a clip."""

    largest_px: float = 0.0
    saturated: int = 0
    values: int = 0


def import_clip(task: ImportTask, worker: Worker) -> VideoOutcome:
    """Import one folder and commit its part.

    Raises
    ------
    FolderError
        Files are missing, broken or of unlike sizes.
    OSError
        The folder or a file cannot be read.
    NoSpaceError
        The disk is full.
    """
    began = time.perf_counter()
    source, options = task.source, task.options
    files = inspect(
        source.path,
        task.layouts,
        step=options.step,
        frames=options.frame_codec == "jpeg",
        pairing=task.pairing,
    )
    state = fingerprint(source.path)
    height, width = _size(files.flow[0][0], files.flow[0][0].read_bytes())
    parts, seen = PartsFolder(task.store), _Seen()
    with PartWriter(
        parts.part_path(source.video_id),
        video_id=source.video_id,
        options=options,
        width=width,
        height=height,
    ) as writer:
        n_frames = len(files.flow) + options.step
        for index in range(n_frames):
            frame = _checked(files.frames[index], (height, width)) if files.frames else None
            writer.add_frame(index / task.fps, frame)
            if index < len(files.flow):
                writer.add_flow("flow", _field(files.flow[index], (height, width), options, seen))
            worker.report(index + 1, (index + 1) / n_frames)
        record = _record(task, files, state, seen, size=(height, width))
        writer.commit(record)
    return VideoOutcome(
        video_id=source.video_id,
        source=str(source.path),
        status="stored",
        label=source.label,
        n_frames=record.n_frames,
        n_flow=record.n_flow,
        seconds=time.perf_counter() - began,
        warnings=(files.note,) if files.note else (),
    )


def _checked(path: Path, size: tuple[int, int]) -> bytes:
    """Return the bytes of a frame that decodes and has this (height, width)."""
    data = _read(path, size)
    try:
        jpeg.decode(data)
    except JpegError as error:
        raise _broken(path, error) from error
    return data


def _field(pair: tuple[Path, Path], size: tuple[int, int], options: StoreOptions, seen: _Seen) -> EncodedFlow:
    """Return the two images of a flow field as they are stored; add their range to `seen`."""
    chunks = []
    for path in pair:
        data = _read(path, size)
        try:
            codes = jpeg.decode_grey(data)
        except JpegError as error:
            raise _broken(path, error) from error
        ends = dequantize_u8(np.array([codes.min(), codes.max()]), bound_px=options.bound_px)
        seen.largest_px = max(seen.largest_px, float(np.abs(ends).max()))
        seen.saturated += int(np.count_nonzero((codes == 0) | (codes == U8_LEVELS)))
        seen.values += codes.size
        chunks.append(data)
    x, y = chunks
    return options.codec.packed((x, y), largest_px=seen.largest_px, clipped=0)


def _read(path: Path, size: tuple[int, int]) -> bytes:
    """Return the bytes of a JPEG file that has this (height, width)."""
    data = path.read_bytes()
    found = _size(path, data)
    if found != size:
        raise FolderError(
            "size_mismatch",
            f"{path} is {found[1]}x{found[0]}, the first flow image {size[1]}x{size[0]}; "
            "frames and flow of a clip must have one size",
        )
    return data


def _size(path: Path, data: bytes) -> tuple[int, int]:
    """Return the (height, width) in a JPEG file's header."""
    try:
        return jpeg_size(data)
    except StoreCorruptError as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> FolderError:
    return FolderError("decode_error", f"{path} is no sound JPEG: {error}")


def _record(
    task: ImportTask, files: ClipFiles, state: SourceFingerprint, seen: _Seen, *, size: tuple[int, int]
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
        decoding=DecodeStatus(status_reason=files.note),
        flow_range=FlowRange(
            clipped_fraction=seen.saturated / max(1, seen.values), flow_max_px=seen.largest_px
        ),
    )
