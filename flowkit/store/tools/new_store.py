"""Hold the path of a store that is made of others, and go on after a kill.

While such a store is made, a recipe in its folder of parts names the command, its choices and the state of
its sources. Files beside a recipe are leftovers of that work, and nothing is lost with them: the sources
have it all. Without one they belong to an extraction, or to somebody else, and are left alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flowkit import atomic
from flowkit.errors import InputError, StoreError
from flowkit.store.inventory import shard_files
from flowkit.store.parts_folder import PartsFolder, shards_path


def recipe(command: str, sources: Sequence[Path | str], **choices: object) -> str:
    """Return the text that identifies the work of a command: equal texts make equal stores."""
    states = [(path, path.stat()) for path in (Path(source).resolve() for source in sources)]
    made_of = [[str(path), state.st_size, state.st_mtime_ns] for path, state in states]
    return json.dumps({"command": command, "choices": choices, "sources": made_of}, sort_keys=True)


@contextlib.contextmanager
def new_store(out: Path, work: str, *, is_made: Callable[[], bool], goes_on: bool = False) -> Iterator[bool]:
    """Hold the path of a new store; yield whether it is still to be made.

    What killed runs left of this path is removed first, and what is made is removed if the block fails.

    Parameters
    ----------
    out
        The new store's file; its folder is made.
    work
        Identifies the work; see `recipe`.
    is_made
        Returns whether the store at `out` is what would be made; StoreError is no.
    goes_on
        Parts of a run with the same recipe are kept, and those that are there when the block fails.

    Raises
    ------
    InputError
        Another store, or parts of one, exist at `out`.
    StoreBusyError
        Another process is writing it.
    """
    parts = PartsFolder(out)
    _check_free(parts, is_made)  # before anything is written
    out.parent.mkdir(parents=True, exist_ok=True)
    with parts.lock():
        parts.remove_dead_temporaries()
        made = _check_free(parts, is_made)
        if not made:
            if not (goes_on and parts.recipe() == work):
                _clear(parts)
            parts.write_recipe(work)
        try:
            yield not made
        except BaseException:  # Ctrl-C too: nothing stays that no run goes on from
            if not goes_on or not _left(parts):
                _clear(parts)
                parts.remove_recipe()
            raise
        parts.remove_recipe()


def _check_free(parts: PartsFolder, is_made: Callable[[], bool]) -> bool:
    """Return whether the store is there and made; raise InputError for one that is not ours to replace."""
    out = parts.store_path
    if out.exists():
        with contextlib.suppress(StoreError):
            if is_made():
                return True
        raise InputError(f"{out} is there already; name a new store, or remove it first")
    if parts.recipe() is None and (left := _left(parts)):
        raise InputError(f"{left[0].parent} is there already; name a new store, or remove it first")
    return False


def _left(parts: PartsFolder) -> list[Path]:
    """Return what there is of a store but for its file: anything except locks and temporaries."""
    own = (atomic.LOCK_NAME, parts.recipe_path.name, parts.state_path.name)
    folders = [folder for folder in (shards_path(parts.store_path), parts.path) if folder.is_dir()]
    found = [path for folder in folders for path in sorted(folder.iterdir())]
    return [path for path in found if path.name not in own and atomic.parse_temporary(path) is None]


def _clear(parts: PartsFolder) -> None:
    """Remove the parts and shards of a store without a file of its own."""
    if parts.store_path.exists():  # committed: its shards are in use
        return
    for path in (*parts.files(), *shard_files(parts.store_path)):
        path.unlink(missing_ok=True)
    parts.remove_state()
    with contextlib.suppress(OSError):  # not there, or files that are not ours
        shards_path(parts.store_path).rmdir()
