"""Write one video to a file of its own: a part, or a segment of a long one.

Chunks of flow go straight into the file. Images are stored end to end in one dataset, whose size
is known only at the end, so that they wait in a spool: memory stays bounded.
"""

from __future__ import annotations

import array
import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from flowkit import atomic
from flowkit.errors import InvalidParameterError, StoreCorruptError
from flowkit.store.codecs.storage import FRAMES, Array, EncodedFlow, ItemWriter, chunk_crcs
from flowkit.store.hdf5_file import (
    DatasetCreator,
    Hdf5Writer,
    create_group,
    is_interruptible,
    uninterrupted,
    write_attrs,
)
from flowkit.store.metadata import Metadata, proofs_of, write_metadata
from flowkit.store.record import VideoRecord, check_video_id
from flowkit.store.schema import VIDEOS, StoreOptions, clipped_name, field_names
from flowkit.validate import check_choice

CHECKED_CHUNK = 4096
"""Most values that share a checksum, of arrays beside frames and flow."""

_UNKNOWN = -1
"""A number of clipped components that is not known."""


class PartWriter:
    """Write one video (or one segment of it) and commit it by renaming its file.

    Parameters
    ----------
    path
        The file it becomes, `<key>.h5` in the parts folder, which must exist. The attribute may be
        changed until `commit`: that this is only a segment of a long video is known late.
    video_id
        Id of the video.
    options
        Options of the store.
    width, height
        Size of the stored frames and flow, px.

    Notes
    -----
    As a context manager it leaves nothing behind unless `commit` was called.
    """

    def __init__(self, path: Path, *, video_id: str, options: StoreOptions, width: int, height: int) -> None:
        self.path = Path(path)
        self.video_id = check_video_id(video_id)
        self.options = options
        self._size = (width, height)
        self._temporary = atomic.claim(self.path)
        self._pts = array.array("d")
        self._interruptible = is_interruptible()
        self._out: Hdf5Writer | None = None
        self._frames: ItemWriter | None = None
        self._fields: dict[str, ItemWriter] = {}
        self._clipped = {name: array.array("i") for name in field_names(options)}
        try:
            with atomic.no_space_translated(self.path), uninterrupted():
                self._open()
        except BaseException:  # Ctrl-C too: no half part stays
            self.abort()
            raise

    def _open(self) -> None:
        options, folder, (width, height) = self.options, self.path.parent, self._size
        self._out = Hdf5Writer(self._temporary)
        self._group = DatasetCreator(create_group(self._out.file, f"{VIDEOS}/{self.video_id}"))
        if options.frame_codec == "jpeg":
            self._frames = FRAMES.create(self._group, "frames", size=(height, width), folder=folder)
        storage = options.codec.storage
        for name in field_names(options):
            self._fields[name] = storage.create(self._group, name, size=(height, width), folder=folder)

    @property
    def n_frames(self) -> int:
        """Frames added so far."""
        return len(self._pts)

    def add_frame(self, pts_seconds: float, jpeg: bytes | None = None) -> None:
        """Append the next frame: its time and, unless the store keeps no frames, its JPEG.

        Raises
        ------
        InvalidParameterError
            A JPEG is missing, or given to a store without frames.
        NoSpaceError
            The disk is full.
        """
        if (jpeg is None) != (self._frames is None):
            given = "no JPEG" if jpeg is None else "a JPEG"
            raise InvalidParameterError(
                f"frame_codec is {self.options.frame_codec!r}, but add_frame got {given}"
            )
        if self._frames is not None and jpeg is not None:
            self._add(self._frames, (jpeg,), chunk_crcs((jpeg,)), math.nan)
        self._pts.append(pts_seconds)

    def add_flow(self, field_name: str, flow: EncodedFlow) -> None:
        """Append the next pair's flow to a field.

        Raises
        ------
        InvalidParameterError
            The store has no such field, or another codec.
        NoSpaceError
            The disk is full.
        """
        check_choice("field", field_name, self._fields, where="of this store")
        if flow.codec != self.options.flow_codec:
            raise InvalidParameterError(
                f"a field of codec {flow.codec!r} was given to a store of codec {self.options.flow_codec!r}"
            )
        self._add(self._fields[field_name], flow.chunks, flow.crcs, flow.scale)
        self._clipped[field_name].append(_UNKNOWN if flow.clipped is None else flow.clipped)

    def commit(self, record: VideoRecord) -> None:
        """Write the datasets of the whole video and make it durable: the rename is the commit.

        Raises
        ------
        StoreCorruptError
            The record's counts or sizes differ from what was added.
        NoSpaceError
            The disk is full; nothing is committed.
        """
        self._check(record)
        with self._guarded():
            self._finish(record)
            if self._out is not None:
                self._out.finish()
            self._out = None
            atomic.commit(self._temporary, self.path)
        self.abort()

    def abort(self) -> None:
        """Remove an uncommitted file; a committed part stays."""
        with uninterrupted():  # a second Ctrl-C leaves no half part either
            for field in self._fields.values():
                field.close()
            if self._frames is not None:
                self._frames.close()
            if self._out is not None:
                self._out.abandon()
                self._out = None
            atomic.discard(self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _finish(self, record: VideoRecord) -> None:
        arrays = {"pts": Array(np.array(self._pts, "<f8"))}
        for field in self._fields.values():
            arrays |= field.finish()
        for name, counts in self._clipped.items():
            stored = clipped_name(name, self.options)
            if stored is not None and _UNKNOWN not in counts:
                arrays[stored] = Array(np.array(counts, "<i4"), fill=_UNKNOWN)
        if self._frames is not None:
            arrays |= self._frames.finish()
        for name, (values, fill) in arrays.items():
            self._group.array(name, values, chunk=min(values.size, CHECKED_CHUNK) or None, fill=fill)
        # The record stands in the block alone, which every reader of parts takes; a store has it twice.
        group = self._group.group
        write_attrs(group, proofs_of({name: array.values for name, array in arrays.items()}))
        metadata = Metadata(options=self.options, records={record.video_id: record})
        write_metadata(group.file, metadata, attributes=False)

    def _check(self, record: VideoRecord) -> None:
        flows = {name: field.count for name, field in self._fields.items()}
        found = (self.video_id, *self._size, self.n_frames, *flows.values())
        asked = (record.video_id, record.width, record.height, record.n_frames)
        if found != (*asked, *[record.n_flow] * len(flows)):
            raise StoreCorruptError(
                f"the record of {self.video_id!r} does not fit what was written: it has {record.video_id!r} "
                f"{record.width}x{record.height}, {record.n_frames} frames, {record.n_flow} fields; written "
                f"{self._size[0]}x{self._size[1]}, {self.n_frames} frames, {flows}"
            )

    def _add(
        self, writer: ItemWriter, chunks: tuple[bytes, ...], crcs: tuple[int, ...], scale: float
    ) -> None:
        if self._interruptible:
            with self._guarded():
                writer.add(chunks, crcs, scale)
            return
        # Without the guard, which would take longer than the small chunk itself, unless it is needed.
        try:
            writer.add(chunks, crcs, scale)
            failed = self._out is not None and self._out.failed
        except BaseException:  # whatever it is, the guard abandons the part
            with self._guarded():
                raise
        if failed:
            with self._guarded():
                pass

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Abandon the part on any failure: a file that missed one write cannot be trusted."""
        try:
            with atomic.no_space_translated(self.path), uninterrupted():
                try:
                    yield
                finally:
                    # Before HDF5's own error over the failed write, if it raised one.
                    if self._out is not None:
                        self._out.check()
        except BaseException:  # Ctrl-C too: no half part stays
            self.abort()
            raise
