"""Annotation lists of a store's splits, as trainers read them: `dir nframes label` a line.

Splits are CSV files beside the store, `<store>.splits/<name>.csv`, with an `id` and a `subset` (train,
test, …) or a `fold` (each fold is the test set once). Lists go to `annotations/<split>/`:

``rgb_<subset>.txt``   with the number of frames
``flow_<subset>.txt``  with the number of flow fields, one less: with the number of frames a loader would
                       open a flow image that does not exist
``classes.txt``        the class names in order, the first is label 0

The split `all` has every clip in one list. There are only folders directly in `annotations`,
because scripts that count files take every entry two levels down for a folder of images.

Source: TSN's `tools/build_file_list.py` and mmaction2's `RawframeDataset`: fields divided by spaces,
labels from 0; both have a list for frames and one for flow.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import quote

from flowkit.datasets.splits import splits_path
from flowkit.datasets.text import csv_rows, read_text
from flowkit.errors import InputError
from flowkit.remote import Location

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ListedClip:
    """The entry of a clip in lists; `label` counts from 0, None where the clip has no class.

    `path` is its folder below the destination, its id unless spaces are spelled out.
    """

    path: str
    n_frames: int
    n_flow: int
    label: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ListSplit:
    """Ids by subset."""

    name: str
    subsets: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Omissions:
    """Clips that the lists leave out: a sentence for each cause, and how many are left out for spaces."""

    notes: tuple[str, ...] = ()
    spaced: int = 0


def read_splits(store_path: Location) -> list[ListSplit]:
    """Read the splits beside a store, by name; none where there is no folder.

    Raises
    ------
    InputError
        A file lacks an `id` column, or has neither `subset` nor `fold`.
    """
    folder = splits_path(store_path)
    # A name such as "...csv" would be the folder above.
    files = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))
    return [split for path in files for split in _read_split(path)]


def _read_split(path: Location) -> list[ListSplit]:
    # Not `parse_split`: lists may have subsets that nobody trains on.
    rows = csv_rows(read_text(path), source=path)
    columns = rows.fieldnames or []
    column = next((name for name in ("subset", "fold") if name in columns), None)
    if "id" not in columns or column is None:
        raise InputError(f"{path}: expected columns id and subset or fold, got {list(columns)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        groups[row[column] or ""].append(row["id"])
    if column == "subset":
        return [ListSplit(name=path.stem, subsets={name: tuple(ids) for name, ids in groups.items()})]
    return [_fold(path.stem, fold, groups) for fold in sorted(groups)]


def _fold(stem: str, fold: str, groups: Mapping[str, Sequence[str]]) -> ListSplit:
    rest = tuple(video_id for other, ids in groups.items() if other != fold for video_id in ids)
    return ListSplit(name=f"{stem}-fold{fold}", subsets={"train": rest, "test": tuple(groups[fold])})


def file_word(name: str) -> str:
    """Return the name of a split or a subset, quoted so that a path cannot leave its folder."""
    word = quote(name, safe=" ")
    return f"%2E{word[1:]}" if word.startswith(".") else word


def spelled_out(video_id: str) -> str:
    """Return an id without spaces, as a folder's name: each is %20 or its like, and % is %25."""
    return re.sub(r"[\s%]", lambda match: quote(match[0], safe=""), video_id)


def list_files(
    splits: Iterable[ListSplit], entries: Mapping[str, ListedClip], classes: Sequence[str], *, prefix: str
) -> tuple[dict[str, str], Omissions]:
    """Return the texts of all list files by their path below `annotations`, and what they leave out.

    Parameters
    ----------
    splits : iterable of ListSplit
        The split `all` is added.
    entries : mapping of str to ListedClip
        The exported clips, by id.
    classes : sequence of str
        Class names in order.
    prefix : str
        Prefix of each path, with a slash between; "" for paths alone.
    """
    texts: dict[str, str] = {}
    start = f"{prefix.rstrip('/')}/" if prefix else ""
    omissions = _omissions(entries.values(), start)
    notes = list(omissions.notes)
    for split in [*splits, ListSplit(name=ALL, subsets={ALL: tuple(entries)})]:
        folder = file_word(split.name)
        texts[f"{folder}/classes.txt"] = "".join(f"{name}\n" for name in classes)
        for subset, ids in split.subsets.items():
            exported = [entries[video_id] for video_id in ids if video_id in entries]
            if len(exported) < len(ids):
                notes.append(
                    f"{len(ids) - len(exported)} of {len(ids)} clips of split {split.name}, subset {subset}, "
                    "are not among the exported ones"
                )
            listed = [entry for entry in exported if entry.label is not None and _is_word(start + entry.path)]
            name = file_word(subset)
            texts[f"{folder}/rgb_{name}.txt"] = _lines(listed, start, "n_frames")
            texts[f"{folder}/flow_{name}.txt"] = _lines(listed, start, "n_flow")
    return texts, dataclasses.replace(omissions, notes=tuple(notes))


def _lines(entries: Iterable[ListedClip], start: str, count: str) -> str:
    return "".join(f"{start}{entry.path} {getattr(entry, count)} {entry.label}\n" for entry in entries)


def _is_word(path: str) -> bool:
    """Return whether readers of a list, which divide its lines at spaces, find a path whole."""
    return path.split() == [path]


def _omissions(entries: Collection[ListedClip], start: str) -> Omissions:
    without_class = sum(entry.label is None for entry in entries)
    spaced = [entry.path for entry in entries if entry.label is not None and not _is_word(start + entry.path)]
    notes = [f"{without_class} clips have no class and are in no list"] if without_class else []
    if spaced and start and not _is_word(start):
        notes.append(
            f"the prefix {start!r} has spaces, at which readers of the lists divide lines: the lists are "
            "empty; give another with --list-prefix"
        )
    elif spaced:
        notes.append(
            f"{len(spaced)} ids have spaces, at which readers of the lists divide lines, and are in none: "
            f"{', '.join(map(repr, spaced[:3]))}; export into another folder with --safe-names, which spells "
            "them with %20"
        )
    return Omissions(notes=tuple(notes), spaced=len(spaced))
