"""Options of splits and groups of clips, and their conversion to splits."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import Function, Options

if TYPE_CHECKING:
    from flowkit.datasets import Split
    from flowkit.store.read.store import Store


def group_options(function: Function) -> Function:
    """Add --leave-one-out, --group, --groups and --group-column."""
    for option in (
        click.option(
            "--group-column", default="group", show_default=True, metavar="NAME", help="Column of --groups."
        ),
        click.option(
            "--groups",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            metavar="FILE.csv",
            help="Table with a group of each clip, which stays together: columns id or path, and the group.",
        ),
        click.option(
            "--group",
            metavar="REGEX",
            help=r"Clips with the same captured part of the id stay together, such as g(\d+) or s(\d+)_.",
        ),
        click.option("--leave-one-out", is_flag=True, help="Each group is the test set once."),
    ):
        function = option(function)
    return function


def parse_lists(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Return the numbers of `1,2,3`, () without any (a click callback)."""
    if value is None:
        return ()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", value):
        raise click.BadParameter(f"{value!r} is not numbers from 1 such as 1,2,3")
    return tuple(dict.fromkeys(int(number) for number in value.split(",")))


def split_options(function: Function) -> Function:
    """Add the fields of `SplitRequest` as options."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    for option in (
        click.option("--allow-missing", is_flag=True, help="Leave out listed videos that STORE lacks."),
        click.option(
            "--fold", multiple=True, metavar="FOLD", help="Test this fold alone; may be given several times."
        ),
        group_options,
        click.option(
            "--folds", type=click.IntRange(min=2), metavar="N", help="Each of N parts is the test set once."
        ),
        click.option(
            "--list",
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


def take_splits(store: Store, options: Options) -> list[Split]:
    """Take the split options out of a command's options; return the checked splits.

    `fold` stays for `take_folds`.

    Raises
    ------
    InvalidParameterError, InputError
        As `SplitRequest` and `resolve_splits`.
    """
    from flowkit.datasets import SplitRequest, resolve_splits

    chosen = {field.name: options[field.name] for field in dataclasses.fields(SplitRequest)}
    for name in chosen.keys() - {"fold"}:
        del options[name]
    return list(resolve_splits(store, SplitRequest(**chosen)))


def take_folds(options: Options) -> tuple[str, ...] | None:
    """Take --fold out of a command's options: the folds to test, None for all."""
    folds: tuple[str, ...] = options.pop("fold")
    return tuple(dict.fromkeys(folds)) or None
