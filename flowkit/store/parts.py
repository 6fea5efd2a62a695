"""The folder of parts beside a store in the making: what is committed, and by whom it is written.

Each finished video is one file there, `<key>.h5`; a long one is first committed in segments,
`<key>~s00000.h5`, which are joined when all are there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from flowkit import atomic
from flowkit.errors import StoreBusyError, StoreCorruptError, StoreError
from flowkit.store import guard
from flowkit.store.codecs.storage import EncodedFlow
from flowkit.store.hdf5_video import Hdf5Video
from flowkit.store.schema import (
    SourceFingerprint,
    StoreOptions,
    VideoRecord,
    check_video_id,
    field_names,
)
from flowkit.store.writer import PartWriter

MAX_KEY_BYTES = 150
LOCK_NAME = "lock"
_SEGMENT = re.compile(r"(?P<key>.+)~s(?P<index>\d{5})\.h5")
# What file systems answer that know no flock: some network and FUSE mounts.
_NO_FLOCK = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What became of the temporaries that lay about."""

    removed: tuple[Path, ...]
    kept: tuple[Path, ...]
    """Of living processes, or of other hosts, whose processes cannot be asked for."""


def part_key(video_id: str) -> str:
    """Return the file name, without its suffix, that stands for a video: one for each id."""
    # `~` is left to the endings, so that no id can look like another's segment.
    key = quote(check_video_id(video_id), safe="").replace("~", "%7E")
    if len(key) <= MAX_KEY_BYTES:
        return key
    return f"{key[: MAX_KEY_BYTES - 34]}~h{hashlib.sha256(video_id.encode()).hexdigest()[:32]}"


def parts_path(store_path: Path) -> Path:
    """Return the folder of parts of a store."""
    return store_path.with_name(f"{store_path.name}.parts")


def shards_path(store_path: Path) -> Path:
    """Return the folder of shards of a store."""
    return store_path.with_name(f"{store_path.name}.shards")


class PartsFolder:
    """The folder of parts of the store at `store_path`; it is made when first needed."""

    def __init__(self, store_path: Path | str) -> None:
        self.store_path = Path(store_path)
        self.path = parts_path(self.store_path)

    def part_path(self, video_id: str) -> Path:
        """Return where the part of a video goes."""
        return self.path / f"{part_key(video_id)}.h5"

    def segment_path(self, video_id: str, index: int) -> Path:
        """Return where segment `index`, counted from 0, of a long video goes."""
        return self.path / f"{part_key(video_id)}~s{index:05d}.h5"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for writing while the `with` block runs.

        Raises
        ------
        StoreBusyError
            Another process holds it.

        Warns
        -----
        RuntimeWarning
            The file system knows no locks: two runs at once would not notice each other.
        """
        with atomic.no_space_translated(self.path):
            descriptor = self._locked_descriptor()
        try:
            yield
        finally:
            try:
                self._remove_if_empty()
            finally:
                os.close(descriptor)

    def _remove_if_empty(self) -> None:
        if not any(entry.name != LOCK_NAME for entry in self._entries()):
            with contextlib.suppress(OSError):
                (self.path / LOCK_NAME).unlink()
                self.path.rmdir()

    def _locked_descriptor(self) -> int:
        """Open the lock file and lock it, whoever removes it meanwhile."""
        name = self.path / LOCK_NAME
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was removed by a run that has just ended
            try:
                self._flock(descriptor)
                if name.exists() and os.path.samestat(os.fstat(descriptor), name.stat()):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {atomic.host_name()}".encode())
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _flock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
            raise StoreBusyError(
                f"{self.store_path} is being written by {owner}; wait for it or end it, then run this again"
            ) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            warnings.warn(
                f"{self.path} lies on a file system without locks ({error.strerror}): make sure that no "
                "other process writes this store",
                RuntimeWarning,
                stacklevel=4,
            )

    def remove_dead_temporaries(self) -> Sweep:
        """Remove what dead processes of this host left half-written; keep and name the rest."""
        removed, kept = [], []
        folders = {
            self.path: "",
            shards_path(self.store_path): "",
            self.store_path.parent: self.store_path.name,
        }
        for folder, prefix in folders.items():
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                temporary = atomic.parse_temporary(path) if path.name.startswith(prefix) else None
                if temporary is None:
                    continue
                if temporary.owner_is_dead:
                    path.unlink(missing_ok=True)
                    removed.append(path)
                else:
                    kept.append(path)
        return Sweep(removed=tuple(removed), kept=tuple(kept))

    def committed_parts(self) -> list[Path]:
        """Return the files of all committed parts, sorted; segments are none."""
        return [
            path for path in self._entries() if path.suffix == ".h5" and not _SEGMENT.fullmatch(path.name)
        ]

    def committed_segments(
        self, video_id: str, options: StoreOptions, fingerprint: SourceFingerprint
    ) -> dict[int, VideoRecord]:
        """Return the committed segments of a video and their records, by index in order.

        Only those count that were made with the same options from the same source, up to the
        first that is missing; others are removed, as nothing can go on from them.
        """
        found: dict[int, VideoRecord] = {}
        # Asked for by name: listing the folder for each video would take a time of its square.
        index = -1
        while (path := self.segment_path(video_id, index := index + 1)).exists():
            record = _trusted_record(path, video_id, options, fingerprint)
            if record is None:
                path.unlink(missing_ok=True)
            else:
                found[index] = record
        return found

    def assemble(self, video_id: str, n_segments: int, record: VideoRecord) -> VideoRecord:
        """Join segments 0 to n_segments - 1 into the one part of a video, commit it, remove them.

        Stored bytes are copied as they are; each one's CRC is checked on the way.

        Parameters
        ----------
        record
            Record of the whole; its counts, `flow_max_px` and `clipped_fraction` are taken
            from the segments.

        Returns
        -------
        VideoRecord
            As committed.

        Raises
        ------
        StoreCorruptError
            A segment is missing or damaged; a damaged one is removed, so that it is redone.
        NoSpaceError
            The disk is full; the segments are kept.
        """
        paths = [self.segment_path(video_id, index) for index in range(n_segments)]
        records = [_read_part(path, video_id) for path in paths]
        whole = _joined(record, [segment for segment, _ in records])
        options = records[0][1]
        with PartWriter(
            self.part_path(video_id),
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

    def remove_segments(self, video_ids: Collection[str]) -> None:
        """Remove every segment of these videos."""
        keys = {part_key(video_id) for video_id in video_ids}
        for path in self._entries():
            match = _SEGMENT.fullmatch(path.name)
            if match and match["key"] in keys:
                path.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return sorted(self.path.iterdir()) if self.path.is_dir() else []


def _trusted_record(
    path: Path, video_id: str, options: StoreOptions, fingerprint: SourceFingerprint
) -> VideoRecord | None:
    try:
        record, stored = _read_part(path, video_id)
    except StoreError:
        return None
    fits = record.fingerprint.matches(fingerprint) and not stored.differences(options)
    return record if fits else None


def _read_part(path: Path, video_id: str) -> tuple[VideoRecord, StoreOptions]:
    with guard.open_file(path) as file, guard.contained(path):
        return guard.read_record(file, video_id), guard.read_options(file)


def _joined(record: VideoRecord, segments: list[VideoRecord]) -> VideoRecord:
    n_flow = sum(segment.n_flow for segment in segments)
    clipped = sum(segment.clipped_fraction * segment.n_flow for segment in segments)
    return dataclasses.replace(
        record,
        n_frames=sum(segment.n_frames for segment in segments),
        n_flow=n_flow,
        clipped_fraction=clipped / max(1, n_flow),
        flow_max_px=max(segment.flow_max_px for segment in segments),
    )


def _append(writer: PartWriter, path: Path) -> None:
    """Add what a segment holds to the whole."""
    try:
        with guard.open_file(path) as file:
            with guard.contained(path):
                record = guard.read_record(file, writer.video_id)
                video = Hdf5Video(file, record, writer.options)
            for pts, data in _frames(video, path):
                writer.add_frame(pts, data)
            for name in field_names(writer.options):
                for flow in _flow(video, name, path):
                    writer.add_flow(name, flow)
    except StoreCorruptError:
        path.unlink(missing_ok=True)
        raise


# Generators, so that what goes wrong while writing is not taken for damage of what is read.
def _frames(video: Hdf5Video, path: Path) -> Iterator[tuple[float, bytes | None]]:
    with guard.contained(path):
        stored = None if video.options.frame_codec == "none" else video.frames
        for index, pts in enumerate(video.pts.tolist()):
            yield pts, stored[index] if stored else None


def _flow(video: Hdf5Video, name: str, path: Path) -> Iterator[EncodedFlow]:
    with guard.contained(path):
        field = video.field(name)
        for index in range(video.record.n_flow):
            yield field.encoded(index)
