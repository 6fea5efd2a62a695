"""Options that say what is trained on and what is tested, and the splits they mean."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowkit.errors import InputError, InvalidParameterError

if TYPE_CHECKING:
    from flowkit.datasets import Split
    from flowkit.store.read.store import Store

Function = TypeVar("Function", bound=Callable[..., Any])

_SOURCES = {
    "split": "--split",
    "ucf101": "--ucf101",
    "hmdb51": "--hmdb51",
    "folds": "--folds",
    "leave_one_out": "--leave-one-out",
}
_WAYS = "--split FILE.csv, --ucf101 DIR, --hmdb51 DIR, --folds N or --leave-one-out --group REGEX"
# Options that mean something with some of the sources alone.
_COMPANIONS = {
    "official_lists": ("--list", ("ucf101", "hmdb51")),
    "allow_missing": ("--allow-missing", ("split", "ucf101", "hmdb51")),
}


def parse_lists(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Return the numbers of `1,2,3`, () without any (a click callback)."""
    if value is None:
        return ()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", value):
        raise click.BadParameter(f"{value!r} is not numbers from 1 such as 1,2,3")
    return tuple(dict.fromkeys(int(number) for number in value.split(",")))


def split_options(function: Function) -> Function:
    """Add --split, --ucf101, --hmdb51, --list, --folds, --leave-one-out, --group, --fold, --allow-missing."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    for option in (
        click.option("--allow-missing", is_flag=True, help="Leave out listed videos that STORE lacks."),
        click.option(
            "--fold", multiple=True, metavar="FOLD", help="Test this fold alone; may be given several times."
        ),
        click.option(
            "--group",
            metavar="REGEX",
            help=r"Videos of which it captures the same in the id stay together, such as g(\d+) or s(\d+)_.",
        ),
        click.option("--leave-one-out", is_flag=True, help="Each group is the test set once."),
        click.option(
            "--folds", type=click.IntRange(min=2), metavar="N", help="Each of N parts is the test set once."
        ),
        click.option(
            "--list",
            "official_lists",
            callback=parse_lists,
            metavar="N,...",
            help="Which splits of --ucf101 or --hmdb51, such as 1,2,3.  [default: 1]",
        ),
        click.option(
            "--hmdb51", type=folder, help="Folder of HMDB51's lists, such as testTrainMulti_7030_splits."
        ),
        click.option("--ucf101", type=folder, help="Folder of UCF101's lists, ucfTrainTestlist."),
        click.option(
            "--split",
            multiple=True,
            metavar="NAME|FILE.csv",
            help="A split beside STORE, or a CSV file with the columns id and subset or fold; may be given "
            "several times.  [default: the only split beside STORE]",
        ),
    ):
        function = option(function)
    return function


def take_splits(store: Store, options: dict[str, Any]) -> list[Split]:
    """Take the split options out of a command's options; return the checked splits.

    `fold` stays for `take_folds`.

    Raises
    ------
    InvalidParameterError
        Options that exclude one another or lack their companion.
    InputError
        No split, several, or one that the store does not bear: a listed video is absent or has no
        label, a group lies on both sides, a class has no video to train on.
    """
    from flowkit.datasets import check_split

    labels = dict(zip(store, store.column("label"), strict=True))
    taken = {name: options.pop(name) for name in (*_SOURCES, *_COMPANIONS, "group")}
    _check_companions(taken)
    splits = [_grouped(split, taken["group"]) for split in _made(store, labels, taken)]
    for split in splits:
        check_split(split, labels)
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise InvalidParameterError(f"two splits have one name, got {names}; rename one of the files")
    if options.get("fold") and not any(split.kind == "fold" for split in splits):
        raise InvalidParameterError(f"--fold chooses among folds, and {names} have none: leave it out")
    return splits


def take_folds(options: dict[str, Any]) -> tuple[str, ...] | None:
    """Take --fold out of a command's options: the folds to test, None for all."""
    folds: tuple[str, ...] = options.pop("fold")
    return tuple(dict.fromkeys(folds)) or None


def _check_companions(taken: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if taken[name]]
    if len(given) > 1:
        flags = [_SOURCES[name] for name in given]
        raise InvalidParameterError(f"{' and '.join(flags)} exclude one another; give one")
    for name, (flag, sources) in _COMPANIONS.items():
        if taken[name] and not set(given) & set(sources):
            wanted = " or ".join(_SOURCES[source] for source in sources)
            raise InvalidParameterError(f"{flag} goes with {wanted}, and none was given")
    if taken["leave_one_out"] and taken["group"] is None:
        raise InvalidParameterError(
            r"--leave-one-out needs --group REGEX, such as 's(\d+)_': it leaves out one group at a time"
        )


def _made(store: Store, labels: Mapping[str, str], taken: Mapping[str, Any]) -> Iterator[Split]:
    """Yield the splits of the one source that was given, or the only one beside the store."""
    from flowkit import datasets

    official = {"ucf101": datasets.split_from_ucf101, "hmdb51": datasets.split_from_hmdb51}
    for name, read in official.items():
        for number in (taken["official_lists"] or (1,)) if taken[name] else ():
            yield read(taken[name], number, labels, allow_missing=taken["allow_missing"])
    for name in taken["split"]:
        yield _named(store, name, labels, allow_missing=taken["allow_missing"])
    if taken["folds"] or taken["leave_one_out"]:
        groups = datasets.groups_by_pattern(labels, taken["group"]) if taken["group"] else None
        if taken["folds"]:
            yield datasets.k_fold(labels, taken["folds"], groups=groups)
        else:
            yield datasets.leave_one_out(groups or {})
    elif not any(taken[name] for name in _SOURCES):
        yield _only(store)


def _named(store: Store, name: str, labels: Mapping[str, str], *, allow_missing: bool) -> Split:
    """Return the split of this name beside the store, else that of a CSV file."""
    from flowkit.datasets import list_splits, split_from_csv
    from flowkit.datasets.splits import splits_path

    there = list_splits(store.path)
    path = splits_path(store.path) / f"{name}.csv" if name in there else Path(name)
    if name not in there and (path.suffix != ".csv" or not path.is_file()):
        listed = ", ".join(there) or "none"
        raise InputError(
            f"--split {name}: no such split beside {store.path} (there: {listed}) and no such .csv file"
        )
    return split_from_csv(path, path.stem, labels, allow_missing=allow_missing)


def _only(store: Store) -> Split:
    from flowkit.datasets import list_splits, read_split

    there = list_splits(store.path)
    if not there:
        raise InputError(f"there is no split beside {store.path}; give {_WAYS}")
    if len(there) > 1:
        raise InputError(
            f"there are several splits beside {store.path}: {', '.join(there)}; choose by --split"
        )
    return read_split(store.path, there[0])


def _grouped(split: Split, pattern: str | None) -> Split:
    """Return the split with the groups that a pattern captures, in place of its own."""
    from flowkit.datasets import groups_by_pattern

    if pattern is None:
        return split
    return dataclasses.replace(split, groups=groups_by_pattern(split.parts, pattern))
