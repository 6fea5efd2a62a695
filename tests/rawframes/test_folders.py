from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from flowkit.errors import InputError
from flowkit.rawframes.folders import find_folders
from flowkit.rawframes.layouts import readings


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def clip(folder: Path, *, img: range, flow: range, prefix: str = "flow_") -> Path:
    names = [f"img_{k:05d}.jpg" for k in img]
    names += [f"{prefix}{axis}_{k:05d}.jpg" for k in flow for axis in "xy"]
    return touch(folder, *names)


def test_folders_are_found_with_id_and_label(tmp_path: Path) -> None:
    clip(tmp_path / "walk" / "a", img=range(1, 3), flow=range(1, 2))
    clip(tmp_path / "b", img=range(1, 3), flow=range(1, 2))
    touch(tmp_path / ".done" / "walk", "flow_x_00001.jpg")
    touch(tmp_path / "annotations" / "all", "rgb_all.txt")
    found = find_folders(tmp_path, readings("tsn"))
    assert [(source.video_id, source.label) for source in found.sources] == [("b", ""), ("walk/a", "walk")]
    assert not found.failures


def test_empty_folders_and_unknown_names_are_failures(tmp_path: Path) -> None:
    touch(tmp_path / "walk" / "empty")
    touch(tmp_path / "walk" / "other", "frame000001.jpg")
    found = find_folders(tmp_path, readings("tsn"))
    reasons = {Path(failure.source).name: failure.reason for failure in found.failures}
    assert reasons == {"empty": "empty_folder", "other": "unknown_names"}


def test_a_clip_inside_a_clip_is_refused(tmp_path: Path) -> None:
    clip(tmp_path / "a", img=range(1, 3), flow=range(1, 2))
    clip(tmp_path / "a" / "b", img=range(1, 3), flow=range(1, 2))
    with pytest.raises(InputError, match="folder of the id"):
        find_folders(tmp_path, readings("tsn"))


def test_a_folder_reached_twice_over_links_is_one_clip(tmp_path: Path) -> None:
    clip(tmp_path / "walk" / "a", img=range(1, 3), flow=range(1, 2))
    (tmp_path / "walk" / "loop").symlink_to(tmp_path)
    assert len(find_folders(tmp_path, readings("tsn")).sources) == 1


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "closed"):
        for kind in ("img", "flow_x", "flow_y"):
            touch(tmp_path / name, f"{kind}_00001.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_folders(tmp_path, readings("tsn"))
    assert [source.video_id for source in found.sources] == ["open"]
    (failure,) = [failure for failure in found.failures if failure.reason == "unreadable"]
    assert failure.source == str(tmp_path / "closed")
    assert failure.detail == "the folder cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", ".Trash"])
def test_what_desktops_and_servers_leave_is_no_clip_and_no_failure(tmp_path: Path, name: str) -> None:
    clip(tmp_path / "walk" / "a", img=range(1, 3), flow=range(1, 2))
    touch(tmp_path / name / "walk" / "a", "._img_00001.jpg", "img_00001.jpg", "x.bin")
    touch(tmp_path / "walk" / "a" / name, "thumb.jpg")
    touch(tmp_path / "walk" / "a", ".DS_Store", "Thumbs.db", "._img_00001.jpg", "desktop.ini")
    found = find_folders(tmp_path, readings("tsn"))
    assert [source.video_id for source in found.sources] == ["walk/a"]
    assert (found.failures, found.ignored) == ((), ())


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["x_00001.jpg", "y_00001.jpg"], "--layout mmaction2"),
        (["frame000001.jpg"], r"--layout feichtenhofer \(with the folders jpegs_256/\{id\}, tvl1_flow/u/"),
        (["00001.png"], r"--layout ixy"),
        (["shot-0001.png"], r"--template img=shot-%04d.png .* --template x=u/\{id\}/shot-%04d.png"),
        (["left.png"], "no numbers"),
    ],
)
def test_unknown_names_are_answered_with_options_that_read_them(
    tmp_path: Path, names: list[str], hint: str
) -> None:
    touch(tmp_path / "a", *names)
    (failure,) = find_folders(tmp_path, readings("tsn")).failures
    assert failure.reason == "unknown_names"
    assert re.search(hint, failure.detail)
    assert ".png" in failure.detail
