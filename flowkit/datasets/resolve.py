"""Resolve a choice of splits: beside the store, from a file or a data set's lists, or made from the ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from flowkit.datasets.split_sources import (
    groups_by_pattern,
    groups_from_csv,
    k_fold,
    leave_one_out,
    split_from_csv,
    split_from_hmdb51,
    split_from_ucf101,
)
from flowkit.datasets.splits import Split, check_split, list_splits, read_split, splits_path
from flowkit.errors import InputError, InvalidParameterError
from flowkit.remote import Location, locate
from flowkit.store.read.store import Store

_SOURCES = ("split", "ucf101", "hmdb51", "folds", "leave_one_out")
_WAYS = (
    "--split FILE.csv, --ucf101 DIR, --hmdb51 DIR, --folds N, or --leave-one-out with --group REGEX or "
    "--groups FILE.csv"
)
# Fields that go with some of the sources only.
_COMPANIONS = {"list": ("ucf101", "hmdb51"), "allow_missing": ("split", "ucf101", "hmdb51")}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SplitRequest:
    """A choice of splits: one source at most; without any, the only split beside the store.

    Parameters
    ----------
    split
        Names of splits beside the store, or paths of CSV files as `split_from_csv` reads them.
    ucf101, hmdb51
        Folder of the data set's lists.
    list
        Numbers of the splits of `ucf101` or `hmdb51`, from 1; the first without it.
    folds
        Make so many folds of all videos, >= 2.
    leave_one_out
        Make each group a fold.
    group
        Regular expression: videos of which it captures the same in the id are a group. It replaces
        a split's own groups.
    groups
        CSV file with a group of each video, as `groups_from_csv` reads it, instead of `group`.
    group_column
        Its column of groups.
    fold
        Folds to test alone; all without it.
    allow_missing
        Leave out, with a warning, listed videos that the store lacks.

    Raises
    ------
    InvalidParameterError
        Several sources, or a choice without the source that it goes with. Messages name the options
        of the command line, which are the fields' names.
    """

    split: tuple[str, ...] = ()
    ucf101: Path | None = None
    hmdb51: Path | None = None
    list: tuple[int, ...] = ()
    folds: int | None = None
    leave_one_out: bool = False
    group: str | None = None
    groups: Path | None = None
    group_column: str = "group"
    fold: tuple[str, ...] = ()
    allow_missing: bool = False

    def __post_init__(self) -> None:
        given = [name for name in _SOURCES if getattr(self, name)]
        if len(given) > 1:
            raise InvalidParameterError(f"{' and '.join(map(_flag, given))} exclude one another; give one")
        for name, sources in _COMPANIONS.items():
            if getattr(self, name) and not set(given) & set(sources):
                wanted = " or ".join(map(_flag, sources))
                raise InvalidParameterError(f"{_flag(name)} goes with {wanted}, and none was given")
        if self.group is not None and self.groups is not None:
            raise InvalidParameterError("--group and --groups exclude one another; give one")
        if self.leave_one_out and self.group is None and self.groups is None:
            raise InvalidParameterError(
                r"--leave-one-out needs --group REGEX, such as 's(\d+)_', or --groups FILE.csv: it leaves "
                "out one group at a time"
            )

    @property
    def has_source(self) -> bool:
        """True if it says where the splits come from."""
        return any(getattr(self, name) for name in _SOURCES)

    def groups_of(self, ids: Iterable[str]) -> dict[str, str] | None:
        """Return the group of each id by the pattern or the table; None without either."""
        if self.groups is not None:
            return groups_from_csv(self.groups, ids, column=self.group_column)
        return groups_by_pattern(ids, self.group) if self.group else None


def resolve_splits(store: Store, request: SplitRequest | None = None) -> tuple[Split, ...]:
    """Return the splits of a request, each checked against the store.

    Raises
    ------
    InvalidParameterError
        Two splits have one name, or a fold is asked for and none of them has folds.
    InputError
        There is no such split, none or several beside the store, or one that the store cannot serve:
        a listed video is absent or has no label, a group is on both sides, a class has no video to
        train on.
    """
    labels = dict(zip(store, store.column("label"), strict=True))
    return _checked(store.path, labels, request or SplitRequest())


def splits_of_labels(labels: Mapping[str, str], request: SplitRequest) -> tuple[Split, ...]:
    """Return the splits of a request for clips that are in no store; as `resolve_splits`.

    Parameters
    ----------
    labels
        Label of each id.
    request
        With a source; `split` has paths of CSV files.
    """
    return _checked(None, labels, request)


def _checked(
    store_path: Location | None, labels: Mapping[str, str], request: SplitRequest
) -> tuple[Split, ...]:
    splits = tuple(_regrouped(split, request) for split in _requested(store_path, labels, request))
    for split in splits:
        check_split(split, labels)
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise InvalidParameterError(f"two splits have one name, got {names}; rename one of the files")
    if request.fold and not any(split.kind == "fold" for split in splits):
        raise InvalidParameterError(f"--fold chooses among folds, and {names} have none: leave it out")
    return splits


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _requested(
    store_path: Location | None, labels: Mapping[str, str], request: SplitRequest
) -> Iterator[Split]:
    """Yield the splits of the one source that is given, or the only one beside the store."""
    lenient = request.allow_missing
    for folder, read in ((request.ucf101, split_from_ucf101), (request.hmdb51, split_from_hmdb51)):
        if folder is not None:
            for number in request.list or (1,):
                yield read(folder, number, labels, allow_missing=lenient)
    for name in request.split:
        yield _named(store_path, name, labels, allow_missing=lenient)
    if request.folds or request.leave_one_out:
        groups = request.groups_of(labels)
        yield k_fold(labels, request.folds, groups=groups) if request.folds else leave_one_out(groups or {})
    elif not request.has_source:
        yield _only(store_path)


def _named(
    store_path: Location | None, name: str, labels: Mapping[str, str], *, allow_missing: bool
) -> Split:
    """Return the split of this name beside the store, else that of a CSV file."""
    present = () if store_path is None else list_splits(store_path)
    beside = store_path is not None and name in present
    path = splits_path(store_path) / f"{name}.csv" if store_path is not None and beside else locate(name)
    if not beside and (path.suffix != ".csv" or not path.is_file()):
        if store_path is None:
            raise InputError(f"--split {name}: no such .csv file")
        listed = ", ".join(present) or "none"
        raise InputError(
            f"--split {name}: no such split beside {store_path} (there: {listed}) and no such .csv file"
        )
    return split_from_csv(path, path.stem, labels, allow_missing=allow_missing)


def _only(store_path: Location | None) -> Split:
    if store_path is None:
        raise InputError(f"no split was named; give {_WAYS}")
    present = list_splits(store_path)
    if not present:
        raise InputError(f"there is no split beside {store_path}; give {_WAYS}")
    if len(present) > 1:
        raise InputError(
            f"there are several splits beside {store_path}: {', '.join(present)}; choose by --split"
        )
    return read_split(store_path, present[0])


def _regrouped(split: Split, request: SplitRequest) -> Split:
    """Return a split with the groups that a request asks for, instead of its own."""
    groups = request.groups_of(split.parts)
    return split if groups is None else dataclasses.replace(split, groups=groups)
