"""The folder that an export fills: nothing outside it is touched, and its files are whole.

Each unit (a clip's folder, a tar shard) is written below `.flowkit-export/partial` and renamed to its
own path, so that a unit at its path is complete. A marker in `.flowkit-export/done`, written just
before the rename, identifies its sources: a repeated export skips a unit whose marker and sizes still
fit, and redoes the others. A folder without a marker is not the export's and is left alone.

A kill loses the unfinished units. Single images are not synced to the disk, which would take longer than
making them: after a power cut the sizes no longer fit, and the same command redoes short units.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowkit import atomic
from flowkit.errors import InputError, StoreOptionsError
from flowkit.store.parts_folder import part_key
from flowkit.store.record import check_video_id
from flowkit.untrusted_json import read_json, typed

CONTROL = ".flowkit-export"
ANNOTATIONS = "annotations"
RESERVED = (CONTROL, ANNOTATIONS)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    """The record of a finished unit: its sources and its size.

    Parameters
    ----------
    name : str
        Its path below the destination.
    made_of : mapping
        Identifies its contents: the sources' fingerprints.
    files, bytes : int
        Number of its files, and their size in all.
    facts : mapping
        Counts for its outcome: frames, fields, clipped components.
    """

    name: str
    made_of: Mapping[str, object]
    files: int
    bytes: int
    facts: Mapping[str, int]


class Destination:
    """The folder at `path`; created on first use.

    Parameters
    ----------
    path : Path
        Folder to fill; may exist and have other files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = path / CONTROL

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder while the `with` block runs, and remove the leftovers of a killed run.

        Raises
        ------
        StoreBusyError
            Another export is writing into it.
        """
        with atomic.folder_lock(self.control, self.path):
            shutil.rmtree(self.control / "partial", ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.control / "partial", ignore_errors=True)

    def check_options(self, options: Mapping[str, object]) -> None:
        """Refuse to continue an export that was made with other options.

        Raises
        ------
        StoreOptionsError
            Options differ; the message names each one.
        """
        stored = _read_json(self.control / "options.json")
        if stored is None:
            return
        asked = json.loads(json.dumps(options))
        names = sorted({*stored, *asked})
        differences = [
            f"{name}: there {stored.get(name)!r}, asked {asked.get(name)!r}"
            for name in names
            if stored.get(name) != asked.get(name)
        ]
        if differences:
            raise StoreOptionsError(
                f"{self.path} was exported with other options: {'; '.join(differences)}; "
                "repeat its options, or export into another folder"
            )

    def write_options(self, options: Mapping[str, object]) -> None:
        """Write the options of this export."""
        _write_json(self.control / "options.json", options)

    def target(self, name: str) -> Path:
        """Return the path of a unit.

        Raises
        ------
        InputError
            The name is no relative path of plain segments, is one of the folder's own names, or
            leads out of the folder through a symbolic link.
        """
        try:
            check_video_id(name)
        except ValueError as error:
            raise InputError(f"cannot be a path below {self.path}: {error}") from error
        if name.split("/")[0] in RESERVED:
            raise InputError(f"{name!r} is in {name.split('/')[0]!r}, which is reserved for the export")
        target = self.path / name
        root = self.path.resolve()
        if target.is_symlink() or not target.parent.resolve().is_relative_to(root):
            raise InputError(f"{target} is, or is behind, a symbolic link that leads out of {self.path}")
        return target

    def write_own(self, name: str, text: str) -> None:
        """Write a file of the export itself: a list, an index.

        Raises
        ------
        InputError
            It is behind a symbolic link that leads out of the folder.
        """
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise InputError(f"{path} is behind a symbolic link that leads out of {self.path}; remove it")
        _write_text(path, text)

    def done(self, name: str) -> Marker | None:
        """Return the marker of a complete unit; None if there is none."""
        marker = self._marker(name)
        if marker is None:
            return None
        try:
            sizes = sizes_below(self.target(name))
        except OSError:
            return None
        return marker if (len(sizes), sum(sizes)) == (marker.files, marker.bytes) else None

    def drop_others(self, names: Collection[str]) -> list[str]:
        """Remove finished units that are not among `names`; return the names of the removed."""
        dropped = []
        for path in sorted((self.control / "done").glob("*.json")):
            marker = _marker_of(path)
            if marker is not None and marker.name not in names:
                _remove(self.target(marker.name))
                path.unlink()
                dropped.append(marker.name)
        return dropped

    @contextlib.contextmanager
    def partial(self, name: str) -> Iterator[Path]:
        """Yield a path to write a unit at; it is removed at the end, unless `commit` has moved it."""
        # A worker may outlive a killed coordinator: its path must differ from its successor's.
        path = self.control / "partial" / f"{part_key(name)}.{os.getpid()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic.no_space_translated(self.path / name):
                yield path
        finally:
            _remove(path)

    def commit(self, name: str, partial: Path, marker: Marker) -> None:
        """Move a written unit to its path, over one of an earlier export.

        Raises
        ------
        InputError
            The path exists and was not written by an export.
        """
        target = self.target(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Again: a link may have been put into the path since it was checked.
        self.target(name)
        if os.path.lexists(target):
            if self._marker(name) is None:
                raise InputError(
                    f"{target} exists and was not written by an export; move it away, or export elsewhere"
                )
            old = partial.with_name(f"{partial.name}~old")
            atomic.move(target, old)
            _remove(old)
        _write_json(self._marker_path(name), dataclasses.asdict(marker))
        atomic.move(partial, target)

    def _marker_path(self, name: str) -> Path:
        return self.control / "done" / f"{part_key(name)}.json"

    def _marker(self, name: str) -> Marker | None:
        return _marker_of(self._marker_path(name))


def _marker_of(path: Path) -> Marker | None:
    try:
        found: Marker = typed(path.name, _read_json(path), Marker)
    except InputError:
        return None
    return found


def sizes_below(path: Path) -> list[int]:
    """Return the sizes of a file, or of the files directly in a folder.

    Raises
    ------
    OSError
        There is nothing at this path.
    """
    if path.is_dir():
        with os.scandir(path) as entries:
            return [entry.stat().st_size for entry in entries]
    return [path.stat().st_size]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None where there is none, or a torn one."""
    try:
        found = read_json(path)
    except (OSError, InputError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    _write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not synced: the next run redoes all that is lost with it.
    atomic.write_text(path, text, durable=False)
