"""The segments of a long video: committed one by one, joined to its part when all are there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from flowkit.errors import StoreCorruptError, StoreError, StoreUnreadableError
from flowkit.store import checked_hdf5
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.inventory import read_part
from flowkit.store.open_file import open_file
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.read.hdf5_video import Hdf5Video
from flowkit.store.record import SourceFingerprint, VideoRecord
from flowkit.store.schema import StoreOptions, field_names
from flowkit.store.write.part import PartWriter


def committed_segments(
    parts: PartsFolder, video_id: str, options: StoreOptions, fingerprint: SourceFingerprint
) -> dict[int, VideoRecord]:
    """Return the committed segments of a video and their records, by index in order.

    Valid are those made with the same options from the same source, up to the first that is
    missing; others are removed, as nothing can continue from them.

    Raises
    ------
    StoreUnreadableError
        The system does not let a segment be read now.
    """
    found: dict[int, VideoRecord] = {}
    # Looked up by name: listing the folder for each video would take quadratic time.
    index = -1
    while (path := parts.segment_path(video_id, index := index + 1)).exists():
        record = _trusted_record(path, video_id, options, fingerprint)
        if record is None:
            path.unlink(missing_ok=True)
        else:
            found[index] = record
    return found


def frames_of_segment(
    parts: PartsFolder, video_id: str, index: int, frames: slice
) -> tuple[VideoRecord, list[tuple[float, bytes | None]]]:
    """Return a segment's record, and of some of its frames time in seconds and JPEG, None without one.

    Raises
    ------
    StoreCorruptError
        The segment is missing or damaged.
    StoreUnreadableError
        The system does not let it be read now.
    """
    path = parts.segment_path(video_id, index)
    record, options = _read_part(path, video_id)
    with open_file(path) as file, checked_hdf5.contained(path):
        video = Hdf5Video(file, record, options)
        return record, list(_frames(video, path, range(record.n_frames)[frames]))


def assemble(parts: PartsFolder, video_id: str, n_segments: int, record: VideoRecord) -> VideoRecord:
    """Join segments 0 to n_segments - 1 into the one part of a video, commit it, remove them.

    Stored bytes are copied as they are; each one's CRC is checked on the way.

    Parameters
    ----------
    record
        Record of the whole; its counts, `flow_max_px`, `clipped_fraction` and engines come from the
        segments, which other runs may have made.

    Returns
    -------
    VideoRecord
        As committed.

    Raises
    ------
    StoreCorruptError
        A segment is missing or damaged; a damaged one is removed, so that it is redone.
    StoreUnreadableError
        The system does not let a segment be read now; all are kept.
    NoSpaceError
        The disk is full; the segments are kept.
    """
    paths = [parts.segment_path(video_id, index) for index in range(n_segments)]
    records = [_read_part(path, video_id) for path in paths]
    whole = _joined(record, [segment for segment, _ in records])
    options = records[0][1]
    with PartWriter(
        parts.part_path(video_id),
        video_id=video_id,
        options=options,
        width=whole.width,
        height=whole.height,
    ) as writer:
        for path in paths:
            _append(writer, path)
        writer.commit(whole)
    for path in paths:
        path.unlink(missing_ok=True)
    return whole


def _trusted_record(
    path: Path, video_id: str, options: StoreOptions, fingerprint: SourceFingerprint
) -> VideoRecord | None:
    try:
        record, stored = _read_part(path, video_id)
    except StoreUnreadableError:
        raise
    except StoreError:
        return None
    fits = record.fingerprint.matches(fingerprint) and not stored.differences(options)
    return record if fits else None


def _read_part(path: Path, video_id: str) -> tuple[VideoRecord, StoreOptions]:
    record, options = read_part(path)
    if record.video_id != video_id:
        raise StoreCorruptError(f"{path} holds {record.video_id!r}, expected {video_id!r}")
    return record, options


def _joined(record: VideoRecord, segments: list[VideoRecord]) -> VideoRecord:
    n_flow = sum(segment.n_flow for segment in segments)
    clipped = sum(segment.clipped_fraction * segment.n_flow for segment in segments)
    return dataclasses.replace(
        record,
        n_frames=sum(segment.n_frames for segment in segments),
        n_flow=n_flow,
        clipped_fraction=clipped / max(1, n_flow),
        flow_max_px=max(segment.flow_max_px for segment in segments),
        backend=_union("backend", ", ", segments) or record.backend,
        device=_union("device", ", ", segments) or record.device,
        opencv_version=_union("opencv_version", ", ", segments) or record.opencv_version,
        deviations=_union("deviations", "; ", segments) or record.deviations,
    )


def _union(name: str, mark: str, segments: list[VideoRecord]) -> str:
    """Return the different texts of an attribute of all segments, in their order."""
    texts = (text for segment in segments for text in getattr(segment, name).split(mark))
    return mark.join(dict.fromkeys(filter(None, texts)))


def _append(writer: PartWriter, path: Path) -> None:
    """Add the frames and flow of a segment to the whole."""
    try:
        record, _ = _read_part(path, writer.video_id)
        with open_file(path) as file:
            with checked_hdf5.contained(path):
                video = Hdf5Video(file, record, writer.options)
            for pts, data in _frames(video, path, range(record.n_frames)):
                writer.add_frame(pts, data)
            for name in field_names(writer.options):
                for flow in _flow(video, name, path):
                    writer.add_flow(name, flow)
    except StoreCorruptError:
        path.unlink(missing_ok=True)
        raise


# Generators, so that errors of writing are not taken for damage of the segment.
def _frames(video: Hdf5Video, path: Path, indices: range) -> Iterator[tuple[float, bytes | None]]:
    with checked_hdf5.contained(path):
        stored, times = None if video.options.frame_codec == "none" else video.frames, video.pts.tolist()
        for index in indices:
            yield times[index], stored[index] if stored else None


def _flow(video: Hdf5Video, name: str, path: Path) -> Iterator[EncodedFlow]:
    with checked_hdf5.contained(path):
        yield from video.encoded(name)
