"""Pack parts while others are being made, so that little is left to do at the end of a run.

A thread copies each committed part into the file that `pack` would begin at the end. Parts stay until that
file is committed, so a kill at any moment loses no more than the copy: its temporary is swept like any
other. When the parts fill a shard, the store will have shards in any case: this one is committed, and its
parts are removed. Whatever fails here is a warning and left to `finalize`, which then packs as if nothing
had been copied.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from flowkit import atomic
from flowkit.store.inventory import survey
from flowkit.store.record import VideoRecord
from flowkit.store.schema import StoreOptions
from flowkit.store.write.container import ContainerWriter, Lists
from flowkit.store.write.pack import Ahead, write_container

SYNC_BYTES = 64 << 20
"""Copied between two flushes to the disk: what is left for the commit is at most that."""


class PackAhead:
    """Packs the parts that it is given, in a thread; the folder of parts must be locked.

    Parameters
    ----------
    store_path
        The store's file.
    options
        Options of the store.
    labels
        Class names in order that shards get: those that the store will have.
    shard_bytes
        The size beyond which a store is split.
    """

    def __init__(
        self,
        store_path: Path,
        options: StoreOptions,
        *,
        labels: Sequence[str],
        shard_bytes: int,
    ) -> None:
        self._store_path, self._options = store_path, options
        self._labels, self._shard_bytes = labels, shard_bytes
        self._known: dict[Path, tuple[VideoRecord, StoreOptions]] = {}
        self._file: ContainerWriter | None = None
        self._bytes = self._unsynced = 0
        self._parts: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._committing = threading.Lock()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def add(self, part: Path) -> None:
        """Pack a committed part, which nobody changes any more; return at once.

        Nothing is raised: `finish` warns of what failed.
        """
        if self._thread is None and not self._stopped.is_set():
            thread = threading.Thread(target=self._work, name="pack", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no room for another thread
                self._error = error
                self._stopped.set()
                return
            self._thread = thread
        self._parts.put(part)

    def finish(self) -> Ahead:
        """Wait until all parts are packed; the file stays open until the `with` block ends.

        Warns
        -----
        RuntimeWarning
            A part could not be packed; all that are left are packed at the end.
        """
        self._join()
        if self._error is not None:
            cause = f"{type(self._error).__name__}: {self._error}"
            warnings.warn(f"parts are packed at the end of the run: {cause}", RuntimeWarning, stacklevel=2)
        return Ahead(begun=self._file, known=self._known)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        try:
            self._join()
            self._discard()
        finally:
            # Ctrl-C may end the wait: the thread then discards its file, but the folder stays locked
            # until a commit that has begun is over.
            with self._committing:
                pass

    def _join(self) -> None:
        self._parts.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            while (part := self._parts.get()) is not None and not self._stopped.is_set():
                self._pack(part)
        except Exception as error:  # it was a copy: `finalize` packs anew, and raises what stays wrong
            self._error = error
            self._stopped.set()
        if self._stopped.is_set():
            self._discard()

    def _pack(self, part: Path) -> None:
        size = os.path.getsize(part)
        if self._file is not None and self._bytes + size > self._shard_bytes:
            with self._committing:
                if self._stopped.is_set():
                    return
                self._commit_shard(self._file)
        if self._file is None:
            self._file = ContainerWriter(self._store_path, self._options)
        if part in self._known:
            raise ValueError(f"{part} was packed before")
        self._known[part] = self._file.copy_part(part)
        self._bytes += size
        self._unsynced += size
        if self._unsynced > SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0

    def _commit_shard(self, file: ContainerWriter) -> None:
        """Commit a full file as the next shard, as `carry_out` would, and remove its parts."""
        files = survey(self._store_path)
        path = files.shard_path(files.next_shard)
        files.shards.mkdir(exist_ok=True)
        atomic.sync(self._store_path.parent)
        sources = {part: [video_id] for video_id, part in file.videos.items()}
        records = dict(sorted((k, self._known[part][0]) for k, part in file.videos.items()))
        lists = Lists(options=self._options, labels=tuple(self._labels), failures=())
        write_container(path, sources, records, lists, number=files.next_shard, begun=file)
        self._file, self._bytes, self._unsynced = None, 0, 0
        for part in sources:
            del self._known[part]
            part.unlink(missing_ok=True)

    def _discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            # A folder that is read-only now keeps the temporary, until the next run sweeps it.
            with contextlib.suppress(OSError):
                file.discard()
