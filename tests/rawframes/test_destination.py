"""The folder of an export: whole units with a marker, and nothing outside it touched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import flowkit
from flowkit.errors import InputError, StoreBusyError, StoreOptionsError
from flowkit.rawframes.destination import Destination, Marker, sizes_below
from tests.rawframes.conftest import MakeStore, contents, names_in, run_export


def put(destination: Destination, name: str, files: dict[str, bytes], **facts: int) -> Marker:
    """Write a unit of these files, as a worker does."""
    with destination.partial(name) as partial:
        partial.mkdir()
        for file, data in files.items():
            (partial / file).write_bytes(data)
        sizes = sizes_below(partial)
        marker = Marker(name=name, made_of={"a": [1]}, files=len(sizes), bytes=sum(sizes), facts=facts)
        destination.commit(name, partial, marker)
    return marker


def test_a_link_that_leads_out_of_the_destination_is_not_followed(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, dest, outside = make_store({"walk/a": 3}), tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    dest.mkdir()
    (dest / "walk").symlink_to(outside)
    report = run_export(store, dest)
    assert [failure.reason for failure in report.failures] == ["refused"]
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", ".", "..", "a\0b", ""])
def test_hostile_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(flowkit.FlowkitError):
        Destination(tmp_path / "out").target(name)


def test_half_a_folder_of_a_killed_run_is_swept_and_written_again(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, dest = make_store({"walk/a": 3}), tmp_path / "out"
    half = dest / ".flowkit-export" / "partial" / "walk%2Fa"
    half.mkdir(parents=True)
    (half / "img_00001.jpg").write_bytes(b"half")
    assert not run_export(store, dest).failures
    assert not half.exists()
    assert len(names_in(dest / "walk/a")) == 7


def test_a_folder_without_its_marker_is_not_taken_for_a_finished_one(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, dest = make_store({"a": 3}), tmp_path / "out"
    run_export(store, dest)
    (dest / ".flowkit-export/done/a.json").write_text("{")
    assert [failure.reason for failure in run_export(store, dest).failures] == ["refused"]


def test_a_committed_unit_is_whole_and_done(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")
    assert destination.done("walk/a") is None
    marker = put(destination, "walk/a", {"one": b"1", "two": b"22"}, n_frames=2)
    assert (marker.files, marker.bytes) == (2, 3)
    assert destination.done("walk/a") == marker
    assert contents(tmp_path / "out") == {"walk/a/one": b"1", "walk/a/two": b"22"}
    assert not list((destination.control / "partial").iterdir())


@pytest.mark.parametrize("damage", ["short", "one_more", "one_less", "gone", "no_marker", "torn_marker"])
def test_a_unit_that_was_changed_since_is_not_done(tmp_path: Path, damage: str) -> None:
    destination = Destination(tmp_path)
    put(destination, "a", {"one": b"1", "two": b"22"})
    (marker,) = (destination.control / "done").iterdir()
    if damage == "short":
        (tmp_path / "a/two").write_bytes(b"2")
    elif damage == "one_more":
        (tmp_path / "a/three").write_bytes(b"")
    elif damage == "one_less":
        (tmp_path / "a/one").unlink()
    elif damage == "gone":
        (tmp_path / "a").rename(tmp_path / "b")
    elif damage == "no_marker":
        marker.unlink()
    else:
        marker.write_text('{"name": "a"}')
    assert destination.done("a") is None


def test_a_unit_of_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    put(destination, "a", {"one": b"1", "two": b"22"})
    marker = put(destination, "a", {"three": b"333"})
    assert contents(tmp_path) == {"a/three": b"333"}
    assert destination.done("a") == marker
    assert not list((destination.control / "partial").iterdir())


def test_a_path_that_no_export_wrote_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").write_bytes(b"mine")
    destination = Destination(tmp_path)
    with pytest.raises(InputError, match="exists and was not written by an export; move it away"):
        put(destination, "a", {"one": b"1"})
    assert contents(tmp_path) == {"a/mine": b"mine"}
    assert destination.done("a") is None


def test_an_unfinished_unit_is_removed(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    with destination.partial("a") as partial:
        partial.mkdir()
        (partial / "one").write_bytes(b"1")
    assert not partial.exists()
    assert destination.done("a") is None
    assert contents(tmp_path) == {}


def test_units_that_are_no_longer_wanted_are_dropped_and_named(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    for name in ("a", "walk/b", "c"):
        put(destination, name, {"one": b"1"})
    (tmp_path / "mine").write_bytes(b"mine")
    assert destination.drop_others({"c"}) == ["a", "walk/b"]
    assert contents(tmp_path) == {"c/one": b"1", "mine": b"mine"}
    assert destination.drop_others({"c"}) == []


def test_the_same_options_pass_and_others_are_named(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")
    destination.check_options({"bound": 20.0})
    destination.write_options({"bound": 20.0, "codecs": ("a", "b")})
    destination.check_options({"bound": 20.0, "codecs": ("a", "b")})
    with pytest.raises(StoreOptionsError) as caught:
        destination.check_options({"bound": 15.0, "codecs": ("a", "b"), "split": "one"})
    assert str(caught.value) == (
        f"{tmp_path / 'out'} was exported with other options: bound: there 20.0, asked 15.0; "
        "split: there None, asked 'one'; repeat its options, or export into another folder"
    )


def test_the_lock_sweeps_what_a_killed_run_left_and_admits_one(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    left = destination.control / "partial" / "a.1"
    left.mkdir(parents=True)
    with destination.lock():
        assert not left.exists()
        with pytest.raises(StoreBusyError), Destination(tmp_path).lock():
            pass
    with destination.lock():
        pass


def test_its_own_files_do_not_follow_a_link_out(tmp_path: Path) -> None:
    dest, outside = tmp_path / "out", tmp_path / "outside"
    dest.mkdir()
    outside.mkdir()
    destination = Destination(dest)
    destination.write_own("annotations/all/x.txt", "list\n")
    assert contents(dest) == {"annotations/all/x.txt": b"list\n"}
    (dest / "index").symlink_to(outside)
    with pytest.raises(InputError, match=r"symbolic link that leads out of .*; remove it"):
        destination.write_own("index/x.txt", "list\n")
    assert not list(outside.iterdir())


def test_a_target_is_below_the_folder_and_no_link(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "out")
    assert destination.target("walk/a") == tmp_path / "out/walk/a"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "out" / "b")
    with pytest.raises(InputError, match="symbolic link that leads out of"):
        destination.target("a")


@pytest.mark.parametrize("name", [".flowkit-export/done", "annotations", "annotations/a"])
def test_names_of_the_export_itself_are_no_target(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="which is reserved for the export"):
        Destination(tmp_path).target(name)


def test_sizes_are_of_a_file_or_of_the_files_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"22")
    assert sizes_below(tmp_path / "two") == [2]
    assert sorted(sizes_below(tmp_path)) == [1, 2]
    with pytest.raises(FileNotFoundError):
        sizes_below(tmp_path / "three")


def test_a_marker_keeps_its_facts(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    marker = put(destination, "über/a", {"one": b"1"}, clipped=3, values=10)
    assert dataclasses.asdict(marker)["facts"] == {"clipped": 3, "values": 10}
    assert Destination(tmp_path).done("über/a") == marker
