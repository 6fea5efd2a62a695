from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flowkit.datasets import (
    check_split,
    class_balance,
    groups_by_pattern,
    groups_from_csv,
    k_fold,
    labels_from_csv,
    leave_one_out,
    parse_classes,
    split_from_csv,
    split_from_hmdb51,
    split_from_ucf101,
)
from flowkit.errors import InputError, InvalidParameterError

CLASSES = ("ApplyEyeMakeup", "HandstandPushups")


def ucf101(folder: Path) -> dict[str, str]:
    """Write the three files of split 1 in their official form; return the labels of a store's ids."""
    names = [f"{label}/v_{label}_g{g:02d}_c01" for label in CLASSES for g in (1, 8, 9)]
    (folder / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n")
    train = [f"{name}.avi {1 + (CLASSES[1] in name)}\r\n" for name in names if "_g01" not in name]
    (folder / "trainlist01.txt").write_text("".join(train))
    (folder / "testlist01.txt").write_text("".join(f"{name}.avi\r\n" for name in names if "_g01" in name))
    return {name: name.split("/")[0] for name in names}


def test_ucf101_lists_become_a_split(tmp_path: Path) -> None:
    labels = ucf101(tmp_path)
    split = split_from_ucf101(tmp_path, 1, labels)
    assert (split.name, split.names) == ("ucf101-1", ("test", "train"))
    assert split.ids("test") == tuple(k for k in labels if "_g01_" in k)
    assert set(split.groups.values()) == {"01", "08", "09"}
    check_split(split, labels)


@pytest.mark.parametrize("prefix", ["UCF-101/", ""])
def test_ids_may_be_deeper_or_keep_their_suffix(tmp_path: Path, prefix: str) -> None:
    labels = {f"{prefix}{k}.avi": label for k, label in ucf101(tmp_path).items()}
    assert split_from_ucf101(tmp_path, 1, labels).parts.keys() == labels.keys()


def test_an_exact_id_wins_over_one_without_its_suffix(tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    file.write_text("id,subset\na/v,train\na/v.1,test\n")
    assert split_from_csv(file, "s", ["a/v", "a/v.1"]).parts == {"a/v": "train", "a/v.1": "test"}


def test_missing_videos_are_named_or_left_out(tmp_path: Path) -> None:
    labels = ucf101(tmp_path)
    gone = labels.popitem()[0]
    with pytest.raises(InputError, match=f"1 of 6 videos.*{gone}.*--allow-missing"):
        split_from_ucf101(tmp_path, 1, labels)
    with pytest.warns(RuntimeWarning, match="left out"):
        split = split_from_ucf101(tmp_path, 1, labels, allow_missing=True)
    assert len(split.parts) == 5


def test_labels_that_contradict_the_classes_are_reported(tmp_path: Path) -> None:
    labels = ucf101(tmp_path)
    with pytest.raises(InputError, match="the store's label is 'x'"):
        split_from_ucf101(tmp_path, 1, dict.fromkeys(labels, "x"))
    (tmp_path / "classInd.txt").write_text("0 ApplyEyeMakeup\n1 HandstandPushups\n")
    with pytest.raises(InputError, match=r"trainlist01.txt:1: label '1'"):
        split_from_ucf101(tmp_path, 1, labels)
    with pytest.raises(InputError, match="cannot be read"):
        split_from_ucf101(tmp_path, 2, labels)


def test_hmdb51_flags_are_train_test_and_unused(tmp_path: Path) -> None:
    odd = "Best_Of_#1_[x]_brush_hair_u_cm_np1_ba_goo_0"
    (tmp_path / "brush_hair_test_split2.txt").write_text(f"{odd}.avi 1 \na b_{odd}.avi 2 \nunused.avi 0 \n")
    (tmp_path / "wave_test_split2.txt").write_text("w.avi 2\n")
    (tmp_path / "wave_test_split1.txt").write_text("other.avi 1\n")
    labels = {f"brush_hair/{odd}": "brush_hair", f"brush_hair/a b_{odd}": "brush_hair", "wave/w": "wave"}
    split = split_from_hmdb51(tmp_path, 2, labels)
    assert split.name == "hmdb51-2"
    assert split.train_test() == ((f"brush_hair/{odd}",), (f"brush_hair/a b_{odd}", "wave/w"))
    with pytest.raises(InputError, match="no file"):
        split_from_hmdb51(tmp_path, 3, labels)
    (tmp_path / "wave_test_split2.txt").write_text("w.avi 3\n")
    with pytest.raises(InputError, match="expected `video 0"):
        split_from_hmdb51(tmp_path, 2, labels)


def test_csv_with_paths_becomes_a_split(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,fold,group\nrun/a.mp4,0,p\nwalk/b,1,\n")
    split = split_from_csv(path, "mine", ["run/a", "walk/b"])
    assert (split.kind, split.parts, split.groups) == ("fold", {"run/a": "0", "walk/b": "1"}, {"run/a": "p"})


def test_groups_are_what_the_pattern_captures() -> None:
    assert groups_by_pattern(["a/s1_x", "b/s12_y"], r"s(\d+)_") == {"a/s1_x": "1", "b/s12_y": "12"}
    assert groups_by_pattern(["g1c2"], r"g(\d)c(\d)") == {"g1c2": "1-2"}
    assert groups_by_pattern(["p3"], r"p\d") == {"p3": "p3"}
    with pytest.raises(InputError, match=r"does not occur in \['x'\]"):
        groups_by_pattern(["s1_", "x"], r"s(\d+)_")
    with pytest.raises(InvalidParameterError, match="no regular expression"):
        groups_by_pattern(["x"], "(")


def clips() -> tuple[dict[str, str], dict[str, str]]:
    ids = [f"{label}/s{s}_{k}" for label in "abc" for s in range(10) for k in range(3)]
    return {k: k[0] for k in ids}, groups_by_pattern(ids, r"s(\d+)_")


@pytest.mark.parametrize(
    "table",
    [
        "id,source\na/x,1\na/y,1\nb/z,2\nother,3\n",
        "path,source\nvideos/a/x.mp4,1\na/y.avi,1\nb/z.mp4,2\n",
        "source,video,label\n1,x.mp4,k\n1,y.mp4,k\n2,z.mp4,l\n2,z.mp4,l\n",
    ],
)
def test_groups_of_a_table_are_joined_on_ids_paths_or_names(table: str, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(table)
    groups = groups_from_csv(tmp_path / "index.csv", ["a/x", "a/y", "b/z"], column="source")
    assert groups == {"a/x": "1", "a/y": "1", "b/z": "2"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,group\na,1\n", r"expected the columns id or path, and source, got \['id', 'group'\]"),
        ("name,source\na,1\n", r"expected the columns id or path, and source, got \['name', 'source'\]"),
        ("id,source\na,\n", r"index.csv:2: source is empty"),
        ("id,source\na,1\na,2\n", r"index.csv:3: .* or 'a' has another one above"),
        ("id,source\na,1\n", r"has no row for 1 videos: \['b'\]"),
    ],
)
def test_a_table_without_groups_is_refused(table: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        groups_from_csv(tmp_path / "index.csv", ["a", "b"], column="source")


def test_labels_of_a_table_are_those_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("path;Label\na/x.mp4;run\nc.mp4;walk\n")
    assert labels_from_csv(tmp_path / "index.csv", ["a/x", "a/y"]) == {"a/x": "run"}


def test_folds_keep_groups_whole_and_classes_even() -> None:
    labels, groups = clips()
    split = k_fold(labels, 5, groups=groups, seed=1)
    check_split(split, labels)
    assert (split.name, split.names) == ("5-fold", ("0", "1", "2", "3", "4"))
    assert [row.counts for row in class_balance(split, labels)] == [dict.fromkeys("01234", 6)] * 3
    assert split == k_fold(labels, 5, groups=groups, seed=1)
    assert split.parts != k_fold(labels, 5, groups=groups, seed=2).parts


def test_folds_without_groups_are_stratified() -> None:
    labels = {f"{k}": "ab"[k % 2] for k in range(20)}
    counts = [sorted(row.counts.values()) for row in class_balance(k_fold(labels, 4), labels)]
    assert counts == [[2, 2, 3, 3]] * 2


@pytest.mark.parametrize("folds", [1, 11])
def test_impossible_numbers_of_folds_are_refused(folds: int) -> None:
    labels, groups = clips()
    with pytest.raises(InvalidParameterError, match=r"\[2, 10\]"):
        k_fold(labels, folds, groups=groups)


def test_each_group_is_left_out_once() -> None:
    labels, groups = clips()
    split = leave_one_out(groups)
    check_split(split, labels)
    assert Counter(split.parts.values()) == dict.fromkeys(map(str, range(10)), 9)
    with pytest.raises(InvalidParameterError, match="2 groups"):
        leave_one_out({"a": "x", "b": "x"})


def test_classes_count_as_their_file_counts() -> None:
    assert parse_classes(["1 Jump\n", "2 Run fast\n"], source="c") == {1: "Jump", 2: "Run fast"}
    assert parse_classes(["Jump\n", "Run\n"], source="c") == {0: "Jump", 1: "Run"}
    with pytest.raises(InputError, match="each index and name once"):
        parse_classes(["1 Jump\n", "1 Run\n"], source="c")
