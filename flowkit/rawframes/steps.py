"""The step of the flow, and whether there is backward flow, from the names of a folder's files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from flowkit.errors import InputError
from flowkit.extraction.search import walk_folders
from flowkit.rawframes.frame_files import ZIP_SUFFIX, FolderError, is_zip, zip_members
from flowkit.rawframes.layouts.layout import Layout


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FoundSteps:
    """The steps of forward and backward flow in one folder or zip."""

    path: Path
    forward: frozenset[int]
    backward: frozenset[int]


def find_steps(root: Path, layout: Layout, listed: Sequence[Path] | None = None) -> list[FoundSteps]:
    """Return the steps that file names below a folder say, of each folder and zip with such names.

    Parameters
    ----------
    root : Path
        Searched recursively.
    layout : Layout
        The names; most layouts have no step in them.
    listed : sequence of Path, optional
        The folders and zips to look at instead of all.
    """
    places = _all(root) if listed is None else _listed(listed)
    found = []
    for path, names in places:
        forward, backward = layout.steps(names)
        if forward or backward:
            found.append(FoundSteps(path=path, forward=frozenset(forward), backward=frozenset(backward)))
    return found


def one_step(found: Iterable[FoundSteps]) -> int:
    """Return the one step of some folders, 1 where there is none.

    Raises
    ------
    InputError
        There are several.
    """
    found = list(found)
    steps = sorted({step for one in found for step in one.forward or one.backward})
    if len(steps) > 1:
        shown = ", ".join(
            f"{step} (as in {next(one.path for one in found if step in one.forward | one.backward)})"
            for step in steps
        )
        raise InputError(f"the file names have flow of several steps, {shown}; a store has one: give --step")
    return steps[0] if steps else 1


def with_backward(found: Iterable[FoundSteps], step: int) -> bool:
    """Return whether the folders have backward flow of a step.

    Raises
    ------
    InputError
        Some have it and some have not: the clips of a store have the same fields.
    """
    found = list(found)
    there = [one.path for one in found if step in one.backward]
    not_there = [one.path for one in found if step in one.forward and step not in one.backward]
    if there and not_there:
        raise InputError(
            f"{len(there)} folders have backward flow, such as {there[0]}, and {len(not_there)} have none, "
            f"such as {not_there[0]}; a store's clips have the same fields: --no-backward leaves it out, "
            "--backward imports the clips that have both"
        )
    return bool(there)


def _all(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, _, names in walk_folders(root):
        yield folder, names
        yield from _listed([folder / name for name in names if is_zip(name)])


def _listed(paths: Iterable[Path]) -> Iterator[tuple[Path, list[str]]]:
    for path in paths:
        zipped = path.with_name(path.name + ZIP_SUFFIX)
        if not path.exists() and zipped.is_file():
            path = zipped
        # What cannot be read is reported when the clip is.
        with contextlib.suppress(FolderError, OSError):
            yield path, list(zip_members(path)) if path.is_file() else os.listdir(path)
