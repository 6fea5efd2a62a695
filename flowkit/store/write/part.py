"""Write one video to a file of its own: a part, or a segment of a long one.

Flow goes straight into the file, chunk by chunk. Pictures must lie end to end in one dataset,
whose size is known only at the end, so that they wait in a spool: memory stays bounded.
"""

from __future__ import annotations

import array
import contextlib
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import h5py
import numpy as np

from flowkit import atomic
from flowkit.errors import InvalidParameterError, StoreCorruptError
from flowkit.quantize import I8_FILL, I16_FILL
from flowkit.store.codec import EncodedFlow
from flowkit.store.record import VideoRecord, check_video_id
from flowkit.store.schema import DEFLATE_LEVEL, VIDEOS, StoreOptions, field_names
from flowkit.store.write.hdf5_file import Hdf5Writer, write_attrs, write_checked, write_root
from flowkit.validate import check_choice

SPOOL_BYTES = 8 << 20
COPY_BYTES = 4 << 20


class Spool:
    """Byte strings that will lie end to end in one dataset: in memory while few, then in a file."""

    def __init__(self, folder: Path) -> None:
        # A file without a name: whatever kills the process, nothing of it is left.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES, dir=str(folder))
        self.offsets = array.array("q", [0])
        self.crcs = array.array("I")

    def add(self, data: bytes) -> None:
        """Append one piece."""
        self._file.write(data)
        self.offsets.append(self.offsets[-1] + len(data))
        self.crcs.append(zlib.crc32(data))

    def write_to(self, group: h5py.Group, name: str) -> None:
        """Write all pieces as the contiguous dataset `name`."""
        dataset = group.create_dataset(name, shape=(self.offsets[-1],), dtype=np.uint8)
        self._file.seek(0)
        start = 0
        while block := self._file.read(COPY_BYTES):
            dataset[start : start + len(block)] = np.frombuffer(block, np.uint8)
            start += len(block)

    def close(self) -> None:
        """Free the space."""
        self._file.close()


class _ChunkField:
    """A flow field of codec `i8` or `i16`: one deflated chunk for each pair."""

    def __init__(self, group: h5py.Group, name: str, codec: str, size: tuple[int, int]) -> None:
        width, height = size
        shape = (2, height, width)
        wide = codec == "i16"
        self._dataset = group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype="<i2" if wide else "i1",
            compression="gzip",
            compression_opts=DEFLATE_LEVEL,
            shuffle=wide,
            # No codec writes it: it marks a chunk that is not there.
            fillvalue=I16_FILL if wide else I8_FILL,
        )
        self._group, self._name = group, name
        self._scales = array.array("f")
        self._crcs = array.array("I")

    @property
    def count(self) -> int:
        return len(self._crcs)

    def add(self, flow: EncodedFlow) -> None:
        if not isinstance(flow.data, bytes) or not isinstance(flow.crc32, int):
            raise InvalidParameterError("a field of JPEGs was given to a store of codec i8 or i16")
        index = self.count
        self._dataset.resize(index + 1, axis=0)
        self._dataset.id.write_direct_chunk((index, 0, 0, 0), flow.data)
        self._scales.append(flow.scale)
        self._crcs.append(flow.crc32)

    def finish(self) -> None:
        group, name = self._group, self._name
        write_checked(group, f"{name}_scale", np.array(self._scales, "<f4"), fill=np.nan)
        write_checked(group, f"{name}_crc32", np.array(self._crcs, "<u4"))

    def close(self) -> None:
        return


class _JpegField:
    """A flow field of codec `jpeg`: the JPEGs of u and v of each pair, end to end."""

    def __init__(self, group: h5py.Group, name: str, folder: Path) -> None:
        self._group, self._name = group, name
        self._spool = Spool(folder)

    @property
    def count(self) -> int:
        return len(self._spool.crcs) // 2

    def add(self, flow: EncodedFlow) -> None:
        if not isinstance(flow.data, tuple):
            raise InvalidParameterError("a deflated field was given to a store of codec jpeg")
        for plane in flow.data:
            self._spool.add(plane)

    def finish(self) -> None:
        group, name, spool = self._group, self._name, self._spool
        spool.write_to(group, f"{name}_jpeg")
        write_checked(group, f"{name}_offset", np.array(spool.offsets, "<i8"))
        write_checked(group, f"{name}_crc32", np.array(spool.crcs, "<u4"))

    def close(self) -> None:
        self._spool.close()


class PartWriter:
    """Write one video (or one segment of it) and commit it by renaming its file.

    Parameters
    ----------
    path
        The file it becomes, `<key>.h5` in the parts folder, which must exist. The attribute may be
        changed until `commit`: a long video learns late that this is but a segment.
    video_id
        Id of the video.
    options
        Options of the store.
    width, height
        Size of the stored pictures and flow, px.

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
        self._out: Hdf5Writer | None = None
        self._frames: Spool | None = None
        self._fields: dict[str, _ChunkField | _JpegField] = {}
        try:
            with atomic.no_space_translated(self.path):
                self._open()
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        options, folder = self.options, self.path.parent
        self._out = Hdf5Writer(self._temporary)
        write_root(self._out.file, options)
        group = self._out.file.create_group(f"{VIDEOS}/{self.video_id}")
        self._group = group
        if options.frame_codec == "jpeg":
            self._frames = Spool(folder)
        for name in field_names(options):
            self._fields[name] = (
                _JpegField(group, name, folder)
                if options.flow_codec == "jpeg"
                else _ChunkField(group, name, options.flow_codec, self._size)
            )

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
            with self._guarded():
                self._frames.add(jpeg)
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
        with self._guarded():
            self._fields[field_name].add(flow)

    def commit(self, record: VideoRecord) -> None:
        """Write what belongs to the whole video and make it durable: the rename is the commit.

        Raises
        ------
        StoreCorruptError
            The record's counts or sizes are not what was added.
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
        """Remove what is not committed; of a committed part this changes nothing."""
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
        group = self._group
        for field in self._fields.values():
            field.finish()
        if self._frames is not None:
            self._frames.write_to(group, "frames")
            write_checked(group, "frames_offset", np.array(self._frames.offsets, "<i8"))
            write_checked(group, "frames_crc32", np.array(self._frames.crcs, "<u4"))
        write_checked(group, "pts", np.array(self._pts, "<f8"))
        write_attrs(group, record.to_attrs())

    def _check(self, record: VideoRecord) -> None:
        flows = {name: field.count for name, field in self._fields.items()}
        found = (self.video_id, *self._size, self.n_frames, *flows.values())
        asked = (record.video_id, record.width, record.height, record.n_frames)
        if found != (*asked, *[record.n_flow] * len(flows)):
            raise StoreCorruptError(
                f"the record of {self.video_id!r} does not fit what was written: it says {record.video_id!r} "
                f"{record.width}x{record.height}, {record.n_frames} frames, {record.n_flow} fields; written "
                f"{self._size[0]}x{self._size[1]}, {self.n_frames} frames, {flows}"
            )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Give up the part on any failure: a file that missed one write is not to be trusted."""
        try:
            with atomic.no_space_translated(self.path):
                try:
                    yield
                finally:
                    # Before what HDF5 made of a failed write, if that raised too.
                    if self._out is not None:
                        self._out.check()
        except BaseException:
            self.abort()
            raise
