"""The work on one folder of raw frames, or array, in a worker process: read, check, commit a part."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowkit.executor import Worker
from flowkit.extraction.plan import fingerprint
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.rawframes.array_clips import inspect_arrays
from flowkit.rawframes.encoding import ClipEncoder, Unknown
from flowkit.rawframes.frame_files import FolderError
from flowkit.rawframes.inspection import ClipFiles, Pairing, inspect
from flowkit.rawframes.layouts.layout import BACKWARD_FIELD, Kind, Layout
from flowkit.rawframes.listed import WHOLE, Wanted
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

IMPORTED = "imported"
"""Preset, engine and resize rule of an imported store."""
UNKNOWN_METHOD = "unknown"
"""The method of flow as numbers, where it was not named."""

_OF_IMAGES = (
    "imported from folders of layout {layout}: solver, its parameters and version, size of the source, and "
    "times are not known; clipped_fraction counts the codes 0 and 255, which clipped values have"
)
_OF_NUMBERS = (
    "imported from files of layout {layout}, flow by method {method}: its parameters and version, size of "
    "the source, and times are not known"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImportTask:
    """One folder or array to import, with all that a worker needs."""

    source: VideoSource
    store: Path
    options: StoreOptions
    layouts: tuple[Layout, ...]
    fps: float
    pairing: Pairing
    unknown: Unknown = "refuse"
    method: str = UNKNOWN_METHOD
    """Name of what made the flow, where it is numbers."""
    wanted: Wanted = WHOLE
    trees: Mapping[Kind, Path] = dataclasses.field(default_factory=dict)


def import_clip(task: ImportTask, worker: Worker) -> VideoOutcome:
    """Import one folder, or array, and commit its part.

    Raises
    ------
    FolderError
        Files are missing, broken or of unlike sizes, fewer or more than a list says, or have unknown pixels
        that are refused.
    OSError
        The folder or a file cannot be read.
    NoSpaceError
        The disk is full.
    """
    began = time.perf_counter()
    source, options = task.source, task.options
    files = _files(task)
    state = fingerprint(source.path, *source.beside)
    parts = PartsFolder(task.store)
    encoder = ClipEncoder(options, files.flow[0], unknown=task.unknown)
    first = task.wanted.frames.first if task.wanted.frames else 0
    height, width = encoder.size
    with PartWriter(
        parts.part_path(source.video_id),
        video_id=source.video_id,
        options=options,
        width=width,
        height=height,
    ) as writer:
        n_frames = len(files.flow) + options.step
        for index in range(n_frames):
            frame = encoder.frame(files.frames[index]) if files.frames else None
            writer.add_frame((first + index) / task.fps, frame)
            if index < len(files.flow):
                writer.add_flow("flow", encoder.field(files.flow[index]))
            if index < len(files.backward):
                writer.add_flow(BACKWARD_FIELD, encoder.field(files.backward[index]))
            worker.report(index + 1, (index + 1) / n_frames)
        notes = tuple(filter(None, (files.note, *encoder.notes())))
        record = _record(task, files, state, encoder, notes=notes)
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
    step, wanted, frames = task.options.step, task.wanted, task.options.frame_codec == "jpeg"
    if task.layouts[0].form == "npy":
        files = inspect_arrays(task.source.path, step=step, frames=frames, pairing=task.pairing)
    else:
        files = inspect(
            task.source.path,
            task.layouts,
            step=step,
            frames=frames,
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


def _record(
    task: ImportTask,
    files: ClipFiles,
    state: SourceFingerprint,
    encoder: ClipEncoder,
    *,
    notes: Sequence[str],
) -> VideoRecord:
    height, width = encoder.size
    layout = task.layouts[0]
    known = (_OF_NUMBERS if layout.of_numbers else _OF_IMAGES).format(layout=layout.name, method=task.method)
    deviations = "; ".join(filter(None, (known, encoder.unknown_note)))
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
        solver=SolverRecord(backend=IMPORTED, deviations=deviations),
        decoding=DecodeStatus(status_reason="; ".join(notes)),
        flow_range=FlowRange(clipped_fraction=encoder.clipped_fraction, flow_max_px=encoder.largest_px),
        times=TimeRange(start_seconds=task.source.start_seconds, end_seconds=task.source.end_seconds),
    )
