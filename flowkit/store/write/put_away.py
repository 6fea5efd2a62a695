"""Remove files of a store that others replaced: none is removed whose videos are not known to be kept.

What holds other videos, or is damaged, moves to the folder `<store>.broken`; what cannot be read stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

from flowkit import atomic
from flowkit.errors import StoreError, StoreUnreadableError
from flowkit.store import checked_hdf5, index
from flowkit.store.open_file import open_file


def broken_path(store_path: Path) -> Path:
    """Return the folder to which files with unsound or unknown videos move."""
    return store_path.with_name(f"{store_path.name}.broken")


def free_place(folder: Path, file: Path) -> Path:
    """Return a free name for a file in a folder, which is made."""
    folder.mkdir(exist_ok=True)
    names = (f"{file.stem}{f'-{k}' if k else ''}{file.suffix}" for k in itertools.count())
    return next(folder / name for name in names if not (folder / name).exists())


def put_away(replaced: Path, settled: Collection[str], broken: Path) -> None:
    """Remove a file that was replaced if all of its videos are settled; else move it aside.

    Parameters
    ----------
    replaced
        A shard that the store's master does not name.
    settled
        Ids of the videos that the store has, or that are not wanted.
    broken
        The folder to move it to.
    """
    try:
        with open_file(replaced) as file, checked_hdf5.contained(replaced):
            is_settled = index.read_index(file)[0].keys() <= set(settled)
    except StoreUnreadableError:  # not judged: it stays for the next run
        return
    except StoreError:
        is_settled = False
    if is_settled:
        replaced.unlink(missing_ok=True)
    else:
        atomic.move(replaced, free_place(broken, replaced))
