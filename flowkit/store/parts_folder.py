"""The folder of parts beside an unfinished store: committed parts, segments, a recipe, and the lock.

Each finished video is one file there, `<key>.h5`; a long one is first committed in segments,
`<key>~s00000.h5`, which are joined when all are there. The recipe is there while the store is made of others;
see `flowkit.store.tools.new_store`. `run.json` is the state of the run that is, or was last, at work; see
`flowkit.extraction.watch`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from flowkit import atomic
from flowkit.errors import StoreUnreadableError
from flowkit.remote import Location, RemotePath
from flowkit.store.record import check_video_id

AnyPath = TypeVar("AnyPath", Path, RemotePath, Location)

MAX_KEY_BYTES = 150
_SEGMENT = re.compile(r"(?P<key>.+)~s(?P<index>\d{5})\.h5")


@functools.lru_cache(maxsize=64)  # of a video that is extracted it is asked half a dozen times
def part_key(video_id: str) -> str:
    """Return the file name of a video, without suffix: one for each id."""
    # `~` is reserved for the endings, so that no id can look like another's segment.
    key = quote(check_video_id(video_id), safe="").replace("~", "%7E")
    if len(key) <= MAX_KEY_BYTES:
        return key
    return f"{key[: MAX_KEY_BYTES - 34]}~h{hashlib.sha256(video_id.encode()).hexdigest()[:32]}"


def parts_path(store_path: Path) -> Path:
    """Return the folder of parts of a store."""
    return store_path.with_name(f"{store_path.name}.parts")


def shards_path(store_path: AnyPath) -> AnyPath:
    """Return the folder of shards of a store."""
    return store_path.with_name(f"{store_path.name}.shards")


class PartsFolder:
    """The folder of parts of the store at `store_path`; created on first use."""

    def __init__(self, store_path: Path | str) -> None:
        self.store_path = Path(store_path)
        self.path = parts_path(self.store_path)
        self.recipe_path = self.path / "recipe.json"
        self.state_path = self.path / "run.json"

    def part_path(self, video_id: str) -> Path:
        """Return the path of a video's part."""
        return self.path / f"{part_key(video_id)}.h5"

    def segment_path(self, video_id: str, index: int) -> Path:
        """Return the path of segment `index`, counted from 0, of a long video."""
        return self.path / f"{part_key(video_id)}~s{index:05d}.h5"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the store for writing while a `with` block runs; see `atomic.folder_lock`.

        Raises
        ------
        StoreBusyError
            Another process holds it.
        """
        return atomic.folder_lock(self.path, self.store_path)

    def check_held(self) -> None:
        """Check that the folder is still there while a run holds it.

        Raises
        ------
        StoreUnreadableError
            It was renamed or removed, or its file system unmounted: what was finished is not here.
        """
        if not (self.path / atomic.LOCK_NAME).exists():
            raise StoreUnreadableError(
                f"{self.path}, which has all that is finished, is gone: it was renamed or removed, or its "
                "disk unmounted, during the run; bring it back, then run the same command again"
            )

    def remove_dead_temporaries(self) -> atomic.Sweep:
        """Remove temporaries that dead processes of this host left, of parts, of shards and of the store."""
        return atomic.sweep_temporaries(self._written())

    def is_unfinished(self) -> bool:
        """Return whether a run left anything behind: a folder of parts, or temporaries of the dead."""
        left = atomic.find_temporaries(self._written())
        return self.path.is_dir() or any(temporary.owner_is_dead for temporary in left)

    def _written(self) -> dict[Path, str]:
        """Return the folders in which files of the store are written, and how their names start."""
        return {self.path: "", shards_path(self.store_path): "", self.store_path.parent: self.store_path.name}

    def committed_parts(self) -> list[Path]:
        """Return the files of all committed parts, sorted; segments are none."""
        return [
            path for path in self._entries() if path.suffix == ".h5" and not _SEGMENT.fullmatch(path.name)
        ]

    def files(self) -> list[Path]:
        """Return the files of all parts and segments, sorted."""
        return [path for path in self._entries() if path.suffix == ".h5"]

    def recipe(self) -> str | None:
        """Return the recipe of the store that is being made of others; None without one."""
        return self.recipe_path.read_text(encoding="utf-8") if self.recipe_path.is_file() else None

    def write_recipe(self, text: str) -> None:
        """Write the recipe of the store that is being made of others."""
        atomic.write_text(self.recipe_path, text)

    def remove_recipe(self) -> None:
        """Remove the recipe: the store is made, or nothing is left of the work."""
        self.recipe_path.unlink(missing_ok=True)

    def write_state(self, text: str) -> None:
        """Write the state of a run."""
        atomic.write_text(self.state_path, text, durable=False)

    def remove_state(self) -> None:
        """Remove the state of a run: it is done, or left nothing."""
        self.state_path.unlink(missing_ok=True)

    def remove_segments(self, video_ids: Collection[str]) -> None:
        """Remove every segment of these videos."""
        keys = {part_key(video_id) for video_id in video_ids}
        for path in self._entries():
            match = _SEGMENT.fullmatch(path.name)
            if match and match["key"] in keys:
                path.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return sorted(self.path.iterdir()) if self.path.is_dir() else []
