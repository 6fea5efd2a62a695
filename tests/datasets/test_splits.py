from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

from flowkit.datasets import Split, check_split, class_balance, list_splits, read_split, write_split
from flowkit.datasets.splits import parse_split
from flowkit.errors import InputError, InvalidParameterError


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    split = Split(name="mine", kind="subset", parts={"a/1": "train", "b,2": "test"}, groups={"a/1": 'g"1"'})
    store = tmp_path / "out.h5"
    path = write_split(store, split)
    assert path == tmp_path / "out.h5.splits" / "mine.csv"
    assert path.read_text().splitlines()[0] == "id,subset,group"
    assert read_split(store, "mine") == split
    assert list_splits(store) == ("mine",)
    assert list(path.parent.iterdir()) == [path]


def test_each_fold_is_tested_once() -> None:
    split = Split(name="f", kind="fold", parts={"a": "10", "b": "2", "c": "0", "d": "2"})
    assert split.names == ("0", "2", "10")
    assert split.train_test("2") == (("a", "c"), ("b", "d"))
    with pytest.raises(InvalidParameterError, match="the fold to test on"):
        split.train_test()
    with pytest.raises(InvalidParameterError, match="Invalid fold"):
        split.train_test("3")


def test_subsets_are_trained_on_and_tested() -> None:
    split = Split(name="s", kind="subset", parts={"a": "train", "b": "test", "c": "train"})
    assert split.train_test() == (("a", "c"), ("b",))
    with pytest.raises(InvalidParameterError, match="no folds"):
        split.train_test("0")


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Val", " VALIDATION "])
def test_each_name_of_the_validation_part_is_one_part(tmp_path: Path, word: str) -> None:
    parts = {"a": "Train", "b": "TEST", "c": word}
    split = Split(name="s", kind="subset", parts=parts)
    assert split.parts == {"a": "train", "b": "test", "c": "validation"}
    assert (split.train_test(), split.validation) == ((("a",), ("b",)), ("c",))
    path = tmp_path / "s.csv"
    path.write_text("ID,Subset\n" + "".join(f"{k},{part}\n" for k, part in parts.items()))
    assert parse_split(path, "s") == split


def test_folds_keep_their_names_and_have_no_validation_part() -> None:
    split = Split(name="f", kind="fold", parts={"a": "Val", "b": "validation"})
    assert set(split.parts.values()) == {"Val", "validation"}
    assert split.validation == ()


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("trian", "train"), ("training", "train"), ("tst", "test"), ("vlaid", "valid"), ("dev", "val")],
)
def test_an_unknown_subset_is_refused_with_the_nearest_one(tmp_path: Path, word: str, nearest: str) -> None:
    message = f"'{word}' is no subset; the nearest is '{nearest}'"
    with pytest.raises(InputError, match=f"split 's': {message}"):
        Split(name="s", kind="subset", parts={"a": "train", "b": word})
    path = tmp_path / "s.csv"
    path.write_text(f"id,subset\na,train\nb,{word}\n")
    with pytest.raises(InputError, match=f"s.csv:3: {message}"):
        parse_split(path, "s")


def test_a_split_without_a_tested_part_names_what_it_has() -> None:
    split = Split(name="s", kind="subset", parts={"a": "train", "b": "val"})
    with pytest.raises(InvalidParameterError, match="subsets train, validation and no test"):
        split.train_test()


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 101])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameterError, match="names a file"):
        Split(name=name, kind="fold", parts={"a": "0"})
    with pytest.raises(InputError, match="no split"):
        read_split(tmp_path / "out.h5", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,side\na,train\n", "expected columns"),
        ("id,subset\na,train\na,test\n", "2.*there twice|3: .*twice"),
        ("id,subset\na,\n", "empty"),
        ("id,fold\n", "no videos"),
    ],
)
def test_files_that_are_no_split_are_reported(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "out.h5.splits"
    folder.mkdir()
    (folder / "x.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(tmp_path / "out.h5", "x")


LABELS = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "none": ""}


def made(kind: str = "subset", groups: dict[str, str] | None = None, **parts: str) -> Split:
    return Split(name="s", kind=kind, parts=parts, groups=groups or {})  # type: ignore[arg-type]


def test_a_sound_split_passes() -> None:
    check_split(made(a1="train", a2="test", b1="train", b2="test"), LABELS)
    check_split(made("fold", a1="0", a2="1", b1="1", b2="0"), LABELS)


def test_a_group_on_both_sides_is_named() -> None:
    leaking = made(groups={"a1": "p", "a2": "p"}, a1="train", a2="test", b1="train")
    with pytest.raises(InputError, match=r"leaks: 1 groups.*'p' in test and train"):
        check_split(leaking, LABELS)


def test_videos_that_the_store_lacks_are_named() -> None:
    with pytest.raises(InputError, match="'z'"):
        check_split(made(z="train"), LABELS)


def test_videos_without_a_label_are_named() -> None:
    with pytest.raises(InputError, match=r"no label.*'none'"):
        check_split(made(a1="train", none="test"), LABELS)


def test_classes_that_nothing_trains_are_named() -> None:
    with pytest.raises(InputError, match=r"class 'b'.*no video to train on"):
        check_split(made(a1="train", b1="test"), LABELS)
    with pytest.raises(InputError, match=r"class 'b'.*one fold"):
        check_split(made("fold", a1="0", a2="1", b1="1", b2="1"), LABELS)


def test_balance_counts_each_class_in_each_part() -> None:
    rows = class_balance(made(a1="train", a2="test", b1="train"), LABELS)
    assert [(row.label, row.counts) for row in rows] == [
        ("a", {"test": 1, "train": 1}),
        ("b", {"test": 0, "train": 1}),
    ]


def test_a_split_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        parse_split(tmp_path / "none.csv", "none")
    (tmp_path / "latin.csv").write_bytes("id,subset\nBöe,train\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        parse_split(tmp_path / "latin.csv", "latin")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        lambda text: text.replace(",", ";").replace("\n", "\r\n").encode(),
    ],
    ids=["mark", "utf-16", "semicolons"],
)
def test_a_split_is_read_as_spreadsheets_write_it(encode: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(encode("id,subset,group\na,train,g1\nb,test,g2\n"))
    split = parse_split(tmp_path / "s.csv", "s")
    assert split.parts == {"a": "train", "b": "test"}
    assert split.groups == {"a": "g1", "b": "g2"}
