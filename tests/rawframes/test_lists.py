from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from flowkit.errors import InputError
from flowkit.rawframes.lists import ListedClip, ListSplit, Omissions, list_files, read_splits, spelled_out
from tests.rawframes.conftest import MakeStore, contents, run_export

ENTRIES = {
    name: ListedClip(path=name, n_frames=5 + k, n_flow=4 + k, label=k)
    for k, name in enumerate(["run/a", "walk/b"])
}


def write_split(tmp_path: Path, text: str, name: str = "one.csv") -> Path:
    folder = tmp_path / "out.h5.splits"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return tmp_path / "out.h5"


def test_lists_have_directory_count_and_label() -> None:
    split = ListSplit(name="one", subsets={"train": ("walk/b",), "test": ("run/a",)})
    texts, omissions = list_files([split], ENTRIES, ["run", "walk"], prefix="")
    assert texts["one/rgb_train.txt"] == "walk/b 6 1\n"
    assert texts["one/flow_train.txt"] == "walk/b 5 1\n"
    assert texts["one/rgb_test.txt"] == "run/a 5 0\n"
    assert texts["one/classes.txt"] == "run\nwalk\n"
    assert texts["all/rgb_all.txt"] == "run/a 5 0\nwalk/b 6 1\n"
    assert omissions == Omissions()


def test_a_prefix_stands_before_each_directory() -> None:
    texts, _ = list_files([], ENTRIES, [], prefix="data/frames/")
    assert texts["all/rgb_all.txt"].startswith("data/frames/run/a 5 0\n")


def test_each_fold_is_the_test_set_once(tmp_path: Path) -> None:
    store = write_split(tmp_path, "id,fold,group\na,0,g1\nb,1,g2\nc,1,g2\n")
    assert read_splits(store) == [
        ListSplit(name="one-fold0", subsets={"train": ("b", "c"), "test": ("a",)}),
        ListSplit(name="one-fold1", subsets={"train": ("a",), "test": ("b", "c")}),
    ]


def test_a_store_without_splits_has_none(tmp_path: Path) -> None:
    assert read_splits(tmp_path / "out.h5") == []


def test_a_split_without_its_columns_is_refused_by_name(tmp_path: Path) -> None:
    store = write_split(tmp_path, "id,group\na,1\n")
    with pytest.raises(InputError, match=r"one\.csv"):
        read_splits(store)


def test_clips_that_lists_cannot_hold_are_said_to_be_left_out() -> None:
    entries = {
        "a b": ListedClip(path="a b", n_frames=2, n_flow=1, label=0),
        "c": ListedClip(path="c", n_frames=2, n_flow=1, label=None),
    }
    texts, omissions = list_files([], entries, ["x"], prefix="")
    assert texts["all/rgb_all.txt"] == ""
    assert len(omissions.notes) == 2
    assert "'a b'" in omissions.notes[1]
    assert "--safe-names" in omissions.notes[1]
    assert omissions.spaced == 1


def test_a_prefix_with_spaces_keeps_every_clip_out() -> None:
    texts, omissions = list_files([], ENTRIES, [], prefix="/my flow")
    assert texts["all/rgb_all.txt"] == ""
    assert omissions.spaced == 2
    assert "--list-prefix" in omissions.notes[0]


def test_spelled_out_ids_are_one_word_and_differ() -> None:
    ids = ["a b", "a%20b", "a_b", "a\tb", "a\u3000b", "a\x85b", "a"]
    spelled = [spelled_out(video_id) for video_id in ids]
    assert spelled == ["a%20b", "a%2520b", "a_b", "a%09b", "a%E3%80%80b", "a%C2%85b", "a"]
    assert all(name.split() == [name] for name in spelled)


def test_ids_of_a_split_that_are_not_there_are_counted() -> None:
    split = ListSplit(name="one", subsets={"train": ("walk/b", "gone")})
    _, omissions = list_files([split], ENTRIES, [], prefix="")
    assert list(omissions.notes) == [
        "1 of 2 clips of split one, subset train, are not among the exported ones"
    ]


@pytest.mark.parametrize("subset", ["../../evil", "/evil", "..", "a/b"])
def test_a_hostile_subset_stays_in_the_destination(
    make_store: MakeStore, tmp_path: Path, subset: str
) -> None:
    store = make_store({"walk/a": 3})
    write_split(tmp_path, f"id,subset\nwalk/a,{subset}\n")
    before = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in [path, *path.parents]}
    run_export(store, tmp_path / "out")
    after = {path for path in tmp_path.rglob("*") if tmp_path / "out" not in [path, *path.parents]}
    assert after == before
    (found,) = (name for name in contents(tmp_path / "out") if "one/rgb_" in name)
    assert found.count("/") == 2


def test_a_hostile_split_name_is_passed_over(tmp_path: Path) -> None:
    store = write_split(tmp_path, "id,subset\na,train\n", name="...csv")
    assert read_splits(store) == []


def test_there_are_only_folders_two_levels_down(make_store: MakeStore, tmp_path: Path) -> None:
    # mmaction2's parse_directory lists every entry of `*/*` as a folder of images.
    run_export(make_store({"walk/a": 3}), tmp_path / "out", "mmaction2")
    found = glob.glob(f"{tmp_path}/out/*/*")
    assert f"{tmp_path}/out/walk/a" in found
    assert all(os.path.isdir(path) for path in found)
