"""A single-file store or a shard while it is written: videos copied as they are stored, then the index."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import h5py

from flowkit import atomic
from flowkit.errors import StoreOptionsError
from flowkit.store import addresses, checked_hdf5, file_crc, index
from flowkit.store.hdf5_file import Hdf5Writer, uninterrupted
from flowkit.store.inventory import part_contents
from flowkit.store.metadata import Metadata, read_proofs, write_metadata, write_record
from flowkit.store.open_file import StoreFile, open_file
from flowkit.store.record import Failure, VideoRecord
from flowkit.store.schema import VIDEOS, StoreOptions
from flowkit.store.write.pack_plan import Sources


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """The options, class names and failures of a store."""

    options: StoreOptions
    labels: tuple[str, ...]
    failures: tuple[Failure, ...]


class ContainerWriter:
    """A single-file store or a shard being written: videos are copied into it, then it is committed.

    Parameters
    ----------
    beside
        Its temporary is called after this file, in the same folder; `commit` may give it another name.
    options
        Options of the store.

    Attributes
    ----------
    videos : dict
        The videos that are in it, and the file of each one's source.

    Raises
    ------
    NoSpaceError
        The disk is full.

    Notes
    -----
    As a context manager it leaves nothing behind unless `commit` was called.
    """

    def __init__(self, beside: Path, options: StoreOptions) -> None:
        self.videos: dict[str, Path] = {}
        self._path, self._options = beside, options
        self._temporary = atomic.claim(beside)
        self._out: Hdf5Writer | None = None
        with self._guarded(), uninterrupted():
            self._out = Hdf5Writer(self._temporary)
            self._out.file.create_group(VIDEOS)

    def can_become(self, sources: Sources) -> bool:
        """Return whether it can become a file of these videos: it is open, and all that it has is of them."""
        asked = {video_id: source for source, ids in sources.items() for video_id in ids}
        return self._out is not None and self.videos.items() <= asked.items()

    def copy(self, source: Path, records: Mapping[str, VideoRecord]) -> None:
        """Copy videos as they are stored, those that are there already apart.

        Parameters
        ----------
        source
            A part, a shard or a single-file store.
        records
            The videos to take from it, and the records that they get.

        Raises
        ------
        StoreOptionsError
            The source has other options.
        StoreError
            The source is damaged, or cannot be read.
        NoSpaceError
            The disk is full.
        """
        new = {video_id: record for video_id, record in records.items() if video_id not in self.videos}
        if new:
            with self._guarded() as out, open_file(source, recovers=True) as file:
                _copy_videos(file, new, out.file, self._options)
            self.videos |= dict.fromkeys(new, source)

    def copy_part(self, part: Path) -> tuple[VideoRecord, StoreOptions]:
        """Copy the video of a part; return what `read_part` returns of it.

        Raises
        ------
        ValueError
            The file has a video of its id.
        StoreOptionsError, StoreError, NoSpaceError
            As `copy`.
        """
        with self._guarded() as out, open_file(part) as file:
            record, options = part_contents(file)
            if record.video_id in self.videos:
                raise ValueError(f"{part} was packed before")
            _copy_videos(file, {record.video_id: record}, out.file, self._options)
        self.videos[record.video_id] = part
        return record, options

    def sync(self) -> None:
        """Flush what was copied to the disk, so that less is left for the commit.

        Raises
        ------
        NoSpaceError
            The disk is full.
        """
        with self._guarded() as out:
            out.sync()

    def commit(self, path: Path, records: Mapping[str, VideoRecord], lists: Lists, *, number: int) -> None:
        """Write index, addresses and lists, and commit the file, which ends it; a failure discards it.

        Parameters
        ----------
        path
            The committed file, in a folder that exists; a file of that name is replaced.
        records
            Records of its videos, by sorted id.
        lists
            Options, class names and failures that it gets.
        number
            Number of the shard; NO_SHARD for a store's own file.

        Raises
        ------
        NoSpaceError
            The disk is full.
        OSError
            The file cannot be written or renamed: `EXDEV` where `path` is on another file system than
            the temporary, or below another mount of the same one.
        """
        self._path = path
        with self._guarded() as out:
            file = out.file
            with uninterrupted():
                write_metadata(file, Metadata(options=lists.options, labels=lists.labels))
                index.write_lists(file, lists.labels, lists.failures)
                index.write_index(file, records, dict.fromkeys(records, number))
            ranges = addresses.write_addresses(file, list(records), lists.options)
            with uninterrupted():
                file_crc.reserve(file)
                out.check()  # before HDF5's own error over the failed write, if it raised one
                out.finish()
                self._out = None
            file_crc.stamp(self._temporary, ranges)
            atomic.commit(self._temporary, path)
        self.discard()

    def discard(self) -> None:
        """Remove the file unless it was committed; what was discarded is no longer open."""
        with uninterrupted():  # a second Ctrl-C leaves no half file either
            if self._out is not None:
                self._out.abandon()
                self._out = None
            atomic.discard(self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[Hdf5Writer]:
        """Discard the file on any failure: one that missed a write cannot be trusted."""
        try:
            with atomic.no_space_translated(self._path):
                try:
                    yield self._out  # type: ignore[misc]
                finally:
                    if self._out is not None:
                        self._out.check()
        except BaseException:  # Ctrl-C too: no half file stays
            self.discard()
            raise


def _copy_videos(
    file: StoreFile, records: Mapping[str, VideoRecord], target: h5py.File, options: StoreOptions
) -> None:
    """Copy the datasets of whole groups as they are stored, without decoding, and write their attributes."""
    nested = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    nested.set_create_intermediate_group(True)
    # Attributes are text in a heap that no checksum covers; see `flowkit.store.heap_text`.
    without_attributes = h5py.h5p.create(h5py.h5p.OBJECT_COPY)
    without_attributes.set_copy_object(h5py.h5o.COPY_WITHOUT_ATTR_FLAG)
    source = file.filename
    differences = file.metadata.options.differences(options)
    if differences:
        raise StoreOptionsError(f"{source} was made with other options: {'; '.join(differences)}")
    for video_id, record in records.items():
        name = f"{VIDEOS}/{video_id}".encode()
        # A write that fails is reported by the file that is written, not as damage of the source.
        with uninterrupted():
            with checked_hdf5.contained(f"{video_id!r} of {source}"):
                checked_hdf5.check_video(file, video_id)
                proofs = read_proofs(file[name])
                h5py.h5o.copy(file.id, name, target.id, name, without_attributes, nested)
            write_record(target[name], record, proofs)
