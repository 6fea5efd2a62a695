"""Splits: the subset or fold of each video, and groups of videos that stay together.

They are plain CSV beside the store, ``<store>.splits/<name>.csv``, with the columns `id`, `subset`
(train, test, validation) or `fold` (each fold is the test set once), and `group`: videos of one group, of
one person or one source film, must not be on both sides. A finished store itself is never changed.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from flowkit import atomic
from flowkit.datasets.text import csv_rows, read_text
from flowkit.errors import InputError, InvalidParameterError
from flowkit.remote import Location, RemotePath, locate
from flowkit.validate import check_choice

SplitKind: TypeAlias = Literal["subset", "fold"]
"""The kind of a split: the subsets train, test and perhaps validation, or folds."""
TRAIN, TEST, VALIDATION = "train", "test", "validation"
_SUBSETS = {TRAIN: TRAIN, TEST: TEST, VALIDATION: VALIDATION, "val": VALIDATION, "valid": VALIDATION}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Ids that a message names.
_NAMED = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """An assignment of videos to subsets or to folds.

    Raises
    ------
    InvalidParameterError
        The name is no file's name.
    InputError
        There are no videos, a subset has another name than `subset_name` knows, or a group is of a video
        that the split lacks.
    """

    name: str
    kind: SplitKind
    parts: Mapping[str, str]
    """The fold of each id, or its subset: "train", "test" or "validation", in any spelling that
    `subset_name` knows."""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The group of each id; ids without one are groups of their own."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidParameterError(
                f"Invalid split name ({self.name!r}). It names a file: letters, digits, '.', '_' and '-'"
            )
        check_choice("kind", self.kind, get_args(SplitKind))
        if not self.parts:
            raise InputError(f"the split {self.name!r} has no videos")
        if strays := sorted(self.groups.keys() - self.parts.keys()):
            raise InputError(f"the split {self.name!r} has groups of ids that it lacks: {strays[:3]}")
        if self.kind == "subset":
            where = f"split {self.name!r}"
            named = {part: subset_name(part, where=where) for part in dict.fromkeys(self.parts.values())}
            parts = {video_id: named[part] for video_id, part in self.parts.items()}
            object.__setattr__(self, "parts", parts)  # the one way in a frozen dataclass

    @property
    def names(self) -> tuple[str, ...]:
        """The subsets or folds, sorted; folds of digits by their numbers."""
        return tuple(sorted(set(self.parts.values()), key=lambda n: (len(n) if n.isdigit() else 99, n)))

    def ids(self, part: str) -> tuple[str, ...]:
        """Return the ids of one subset or fold, in order.

        Raises
        ------
        InvalidParameterError
            The split has no such part.
        """
        check_choice(self.kind, part, self.names, where=f"of split {self.name!r}")
        return tuple(video_id for video_id, own in self.parts.items() if own == part)

    def train_test(self, fold: str | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the ids to train on and those to test on.

        Parameters
        ----------
        fold
            The fold to test on, the others being trained on; None for a split of subsets.
        """
        if (self.kind == "fold") != (fold is not None):
            raise InvalidParameterError(
                f"the split {self.name!r} is one of {self.kind}s: "
                + ("give the fold to test on" if self.kind == "fold" else "it has no folds")
            )
        if fold is None:
            if lacking := [part for part in (TRAIN, TEST) if part not in self.names]:
                raise InvalidParameterError(
                    f"the split {self.name!r} has the subsets {', '.join(self.names)} and no "
                    f"{' and no '.join(lacking)}: it must say which videos are trained on and which tested"
                )
            return self.ids(TRAIN), self.ids(TEST)
        tested = self.ids(fold)
        return tuple(video_id for video_id, own in self.parts.items() if own != fold), tested

    @property
    def validation(self) -> tuple[str, ...]:
        """The ids of the subset "validation", in order; () without one."""
        return tuple(k for k, own in self.parts.items() if self.kind == "subset" and own == VALIDATION)


def subset_name(text: str, *, where: str) -> str:
    """Return "train", "test" or "validation" (also `val`, `valid`) in any case.

    Parameters
    ----------
    where
        Origin of the text, which begins the message.

    Raises
    ------
    InputError
        It is none of these; the message has the nearest one.
    """
    plain = text.strip().casefold()
    if plain in _SUBSETS:
        return _SUBSETS[plain]
    (nearest,) = difflib.get_close_matches(plain, _SUBSETS, n=1, cutoff=0.0)
    raise InputError(
        f"{where}: {text!r} is no subset; the nearest is {nearest!r}. Subsets are train, test and validation "
        "(val, valid); leave out the lines of videos that are in none"
    )


def splits_path(store_path: Location | str) -> Location:
    """Return the folder of a store's splits."""
    path = locate(store_path)
    return path.with_name(f"{path.name}.splits")


def list_splits(store_path: Location | str) -> tuple[str, ...]:
    """Return the names of the splits beside a store."""
    return tuple(
        sorted(path.stem for path in splits_path(store_path).glob("*.csv") if _NAME.fullmatch(path.stem))
    )


def read_split(store_path: Location | str, name: str) -> Split:
    """Read a split beside a store.

    Raises
    ------
    InputError
        There is none of this name, or its file cannot be read.
    """
    path = splits_path(store_path) / f"{name}.csv"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise InputError(
            f"there is no split {name!r} beside {store_path}; there are {list(list_splits(store_path))}"
        )
    return parse_split(path, name)


def parse_split(path: Location, name: str) -> Split:
    """Read a split from a CSV file: columns `id`, `subset` or `fold`, and perhaps `group`.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a cell of it empty, a subset unknown, or an id occurs
        twice.
    """
    rows = csv_rows(read_text(path), source=path)
    columns = rows.fieldnames or []
    kind: SplitKind | None = "subset" if "subset" in columns else "fold" if "fold" in columns else None
    if "id" not in columns or kind is None:
        raise InputError(f"{path}: expected columns id and subset or fold, got {list(columns)}")
    parts: dict[str, str] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        video_id, part = row["id"] or "", row[kind] or ""
        if not video_id or not part or video_id in parts:
            raise InputError(f"{path}:{number}: id or {kind} is empty, or {video_id!r} is there twice")
        parts[video_id] = subset_name(part, where=f"{path}:{number}") if kind == "subset" else part
        if row.get("group"):
            groups[video_id] = row["group"]
    return Split(name=name, kind=kind, parts=parts, groups=groups)


def write_split(store_path: Location | str, split: Split) -> Path:
    """Write a split beside a store, over one of the same name; return its file.

    Raises
    ------
    InputError
        The store is at an address, where nothing is written.
    """
    path = splits_path(store_path) / f"{split.name}.csv"
    if isinstance(path, RemotePath):
        raise InputError(f"{path}: nothing is written at an address; put the split there by other means")
    write_split_file(path, split)
    return path


def write_split_file(path: Path, split: Split) -> None:
    """Write a split as the CSV file that `parse_split` reads, over an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic.replacement(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["id", split.kind, "group"])
        rows.writerows((k, part, split.groups.get(k, "")) for k, part in split.parts.items())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BalanceRow:
    """Number of videos of one class in each subset or fold."""

    label: str
    counts: Mapping[str, int]


def check_split(split: Split, labels: Mapping[str, str]) -> None:
    """Check that a split can be trained and tested on its store.

    Parameters
    ----------
    labels
        Label of each id of the store.

    Raises
    ------
    InputError
        A listed video is not in the store or has no label, a group is on both sides, or a
        class is in no training set.
    """
    if missing := [k for k in split.parts if k not in labels]:
        raise InputError(
            f"{len(missing)} videos of split {split.name!r} are not in the store: {missing[:_NAMED]}"
        )
    if unlabelled := [k for k in split.parts if not labels[k]]:
        raise InputError(
            f"{len(unlabelled)} videos of split {split.name!r} have no label: {unlabelled[:_NAMED]}"
        )
    _check_groups(split)
    _check_classes(split, labels)


def class_balance(split: Split, labels: Mapping[str, str]) -> list[BalanceRow]:
    """Count the videos of each class in each subset or fold, by class name."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for video_id, part in split.parts.items():
        counts[labels[video_id]][part] += 1
    return [
        BalanceRow(label=label, counts={name: counts[label][name] for name in split.names})
        for label in sorted(counts)
    ]


def _check_groups(split: Split) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for video_id, group in split.groups.items():
        sides[group].add(split.parts[video_id])
    if leaks := {group: sorted(parts) for group, parts in sides.items() if len(parts) > 1}:
        group, parts = next(iter(leaks.items()))
        raise InputError(
            f"the split {split.name!r} leaks: {len(leaks)} groups are on several sides, as {group!r} in "
            f"{' and '.join(parts)}; a group's videos must stay together"
        )


def _check_classes(split: Split, labels: Mapping[str, str]) -> None:
    for row in class_balance(split, labels):
        if split.kind == "subset" and not row.counts.get(TRAIN, 0):
            raise InputError(f"class {row.label!r} of split {split.name!r} has no video to train on")
        if split.kind == "fold" and sum(n > 0 for n in row.counts.values()) < 2:
            raise InputError(
                f"class {row.label!r} of split {split.name!r} is in one fold only: when that is tested on, "
                "there is no video of it to train on"
            )
