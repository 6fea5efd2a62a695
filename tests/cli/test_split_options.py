"""The options of splits as a command takes them, on a store of two classes and two groups."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flowkit.datasets import Split, write_split
from flowkit.errors import FlowkitError
from flowkit.store.read.store import open_store
from flowkit_cli.split_options import split_options, take_folds, take_splits
from tests.make.stores import steady, write_store

IDS = ("jump/v_jump_g01_c01", "jump/v_jump_g02_c01", "walk/v_walk_g01_c01", "walk/v_walk_g02_c01")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "out.h5", {name: steady(1, 1, 0) for name in IDS})


def take(store: Path, *words: object) -> tuple[list[Split], tuple[str, ...] | None]:
    """Return the splits and folds that a command takes from its command line."""
    taken: list[tuple[list[Split], tuple[str, ...] | None]] = []

    def body(**options: object) -> None:
        with open_store(store) as opened:
            taken.append((take_splits(opened, options), take_folds(options)))
        assert not options

    command = click.command()(split_options(body))
    done = CliRunner().invoke(command, [*map(str, words)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return taken[0]


def by_group(name: str = "halves", **changes: str) -> Split:
    """Group 1 is trained on and group 2 tested, but for changes by id."""
    parts = {k: "train" if "_g01_" in k else "test" for k in IDS}
    return Split(name=name, kind="subset", parts=parts | changes)


def test_the_only_split_beside_the_store_is_the_default(store: Path) -> None:
    write_split(store, by_group())
    assert take(store) == ([by_group()], None)


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "no split beside .*--ucf101 DIR.*--folds N"), (("a", "b"), "several splits .*: a, b; .*--split")],
)
def test_without_one_default_the_choice_is_named(store: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        write_split(store, by_group(name))
    with pytest.raises(FlowkitError, match=message):
        take(store)


def test_a_split_is_named_or_a_file(store: Path, tmp_path: Path) -> None:
    write_split(store, by_group("a"))
    (tmp_path / "own.csv").write_text("id,subset\n" + "".join(f"{k}.avi,train\n" for k in IDS))
    taken, _ = take(store, "--split", "a", "--split", tmp_path / "own.csv")
    assert taken[0] == by_group("a")
    assert (taken[1].name, set(taken[1].parts)) == ("own", set(IDS))
    with pytest.raises(FlowkitError, match=r"no such split beside .*\(there: a\)"):
        take(store, "--split", "b")
    with pytest.raises(FlowkitError, match=r"no such \.csv file"):
        take(store, "--split", tmp_path / "gone.csv")


def test_two_files_of_one_name_are_refused(store: Path, tmp_path: Path) -> None:
    write_split(store, by_group("own"))
    (tmp_path / "own.csv").write_text("id,subset\n" + "".join(f"{k},train\n" for k in IDS))
    with pytest.raises(FlowkitError, match="one name"):
        take(store, "--split", "own", "--split", tmp_path / "own.csv")


def write_ucf101(folder: Path, number: int, tested: str) -> None:
    (folder / "classInd.txt").write_text("1 jump\n2 walk\n")
    train = [f"{k}.avi {1 + ('walk' in k)}\n" for k in IDS if tested not in k]
    (folder / f"trainlist{number:02d}.txt").write_text("".join(train))
    test = [f"{k}.avi\n" for k in IDS if tested in k]
    (folder / f"testlist{number:02d}.txt").write_text("".join(test))


def test_ucf101_gives_the_first_list_or_those_asked_for(store: Path, tmp_path: Path) -> None:
    write_ucf101(tmp_path, 1, "_g02_")
    write_ucf101(tmp_path, 2, "_g01_")
    (only,), _ = take(store, "--ucf101", tmp_path)
    assert (only.name, only.ids("test")) == ("ucf101-1", by_group().ids("test"))
    both, _ = take(store, "--ucf101", tmp_path, "--list", "1,2")
    assert [split.name for split in both] == ["ucf101-1", "ucf101-2"]
    assert both[1].ids("test") == both[0].ids("train")


def test_hmdb51_takes_groups_from_the_pattern(store: Path, tmp_path: Path) -> None:
    for label in ("jump", "walk"):
        names = [k.split("/")[1] for k in IDS if k.startswith(label)]
        lines = [f"{name}.avi {1 + ('_g02_' in name)}\n" for name in names]
        (tmp_path / f"{label}_test_split3.txt").write_text("".join(lines))
    (split,), _ = take(store, "--hmdb51", tmp_path, "--list", 3, "--group", r"g(\d+)")
    assert (split.name, split.groups) == ("hmdb51-3", {k: k[-6:-4] for k in IDS})
    with pytest.raises(FlowkitError, match="leaks"):
        take(store, "--hmdb51", tmp_path, "--list", 3, "--group", "(jump|walk)")


def test_missing_videos_are_left_out_on_request(store: Path, tmp_path: Path) -> None:
    write_ucf101(tmp_path, 1, "_g02_")
    with (tmp_path / "testlist01.txt").open("a") as file:
        file.write("walk/v_walk_g02_c09.avi\n")
    with pytest.raises(FlowkitError, match="1 of 5 videos"):
        take(store, "--ucf101", tmp_path)
    with pytest.warns(RuntimeWarning, match="left out"):
        (split,), _ = take(store, "--ucf101", tmp_path, "--allow-missing")
    assert set(split.parts) == set(IDS)


def test_folds_keep_groups_together(store: Path) -> None:
    (split,), folds = take(store, "--folds", 2, "--group", r"g(\d+)", "--fold", 1, "--fold", 1)
    assert (split.name, split.kind, folds) == ("2-fold", "fold", ("1",))
    assert len({split.parts[k] for k in IDS if "_g01_" in k}) == 1
    (alone,), none = take(store, "--folds", 2)
    assert (set(alone.parts), dict(alone.groups), none) == (set(IDS), {}, None)


def test_leave_one_out_makes_each_group_a_fold(store: Path) -> None:
    (split,), _ = take(store, "--leave-one-out", "--group", r"g(\d+)")
    assert (split.names, split.train_test("02")[1]) == (("01", "02"), by_group().ids("test"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--folds", 2, "--leave-one-out"), "--folds and --leave-one-out exclude one another"),
        (("--split", "a", "--ucf101", "."), "--split and --ucf101 exclude"),
        (("--leave-one-out",), "needs --group"),
        (("--folds", 2, "--list", 1), "--list goes with --ucf101 or --hmdb51"),
        (("--folds", 2, "--allow-missing"), "--allow-missing goes with --split or"),
        (("--split", "halves", "--fold", 1), "--fold chooses among folds"),
        (("--folds", 2, "--group", "(x"), "no regular expression"),
        (("--folds", 2, "--group", "x"), "does not occur in"),
        (("--folds", 9), r"folds must be in \[2, 4\]"),
        (
            ("--folds", 2, "--group", "(v)_"),
            r"2 folds need 2 groups.* 4 videos are in 1: \['v'\]; add videos",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(store: Path, words: tuple[object, ...], message: str) -> None:
    write_split(store, by_group())
    with pytest.raises(FlowkitError, match=message):
        take(store, *words)


@pytest.mark.parametrize("value", ["0", "1,", "one", ""])
def test_lists_are_numbers_from_one(store: Path, value: str) -> None:
    with pytest.raises(click.BadParameter, match="numbers from 1"):
        take(store, "--ucf101", ".", "--list", value)


def test_a_split_that_does_not_fit_the_store_is_refused(store: Path) -> None:
    write_split(store, by_group(**{IDS[0]: "test"}))
    with pytest.raises(FlowkitError, match=r"class 'jump' .* has no video to train on"):
        take(store)
