from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowkit.errors import InputError
from flowkit.rawframes.folders import ClipFiles, Pairing, find_folders, inspect, readings
from flowkit.rawframes.frame_files import FolderError
from tests.make.deadline import ends_in_time


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def clip(folder: Path, *, img: range, flow: range, prefix: str = "flow_") -> Path:
    names = [f"img_{k:05d}.jpg" for k in img]
    names += [f"{prefix}{axis}_{k:05d}.jpg" for k in flow for axis in "xy"]
    return touch(folder, *names)


def look(
    folder: Path, layout: str = "tsn", *, step: int = 1, frames: bool = True, pairing: Pairing = "first"
) -> ClipFiles:
    return inspect(folder, readings(layout, step=step), step=step, frames=frames, pairing=pairing)


def test_a_complete_folder_gives_its_files_in_order(tmp_path: Path) -> None:
    files = look(clip(tmp_path, img=range(1, 4), flow=range(1, 3)))
    assert [path.name for path in files.frames] == [f"img_{k:05d}.jpg" for k in (1, 2, 3)]
    assert [(x.name, y.name) for x, y in files.flow] == [
        (f"flow_x_{k:05d}.jpg", f"flow_y_{k:05d}.jpg") for k in (1, 2)
    ]
    assert not files.note


@pytest.mark.parametrize(
    ("img", "flow", "removed", "reason"),
    [
        (range(1, 6), range(1, 5), "img_00003.jpg", "missing_files"),
        (range(1, 6), range(1, 5), "img_00001.jpg", "missing_files"),
        (range(1, 6), range(1, 5), "flow_x_00002.jpg", "missing_files"),
        (range(1, 6), range(1, 5), "flow_y_00004.jpg", "uneven_flow"),
        (range(1, 6), range(1, 5), "img_00005.jpg", "uneven_counts"),
        (range(1, 8), range(1, 5), "img_00007.jpg", "uneven_counts"),
        (range(5), range(1, 5), "img_00004.jpg", "missing_files"),
        (range(1, 1), range(1, 5), "flow_x_00001.jpg", "missing_files"),
    ],
)
def test_a_file_that_is_missing_is_named_with_its_reason(
    tmp_path: Path, img: range, flow: range, removed: str, reason: str
) -> None:
    folder = clip(tmp_path, img=img, flow=flow)
    (folder / removed).unlink(missing_ok=True)
    with pytest.raises(FolderError) as caught:
        look(folder)
    assert caught.value.reason == reason


def test_billions_of_missing_numbers_are_not_counted_one_by_one(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(1, 6), flow=range(1, 5))
    (folder / "img_99999999999.jpg").touch()
    with pytest.raises(FolderError, match=r"lacks img_00006\.jpg, .* and more \(6 img images"):
        ends_in_time(lambda: look(folder))


def test_missing_files_are_listed(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(1, 6), flow=range(1, 5))
    (folder / "img_00003.jpg").unlink()
    with pytest.raises(FolderError, match=r"lacks img_00003\.jpg"):
        look(folder)


@pytest.mark.parametrize(
    ("flow", "frames", "reason"), [(range(0), True, "no_flow"), (range(1, 3), True, "no_frames")]
)
def test_a_kind_that_is_missing_altogether_has_its_own_reason(
    tmp_path: Path, flow: range, frames: bool, reason: str
) -> None:
    img = range(1, 4) if not flow else range(0)
    with pytest.raises(FolderError) as caught:
        look(clip(tmp_path, img=img, flow=flow), frames=frames)
    assert caught.value.reason == reason


def test_flow_alone_is_complete_where_frames_are_not_wanted(tmp_path: Path) -> None:
    files = look(clip(tmp_path, img=range(0), flow=range(1, 5)), frames=False)
    assert (len(files.frames), len(files.flow)) == (0, 4)


def test_tsns_own_folders_have_the_second_frame_of_each_pair(tmp_path: Path) -> None:
    files = look(clip(tmp_path, img=range(1, 5), flow=range(1, 5)), pairing="second")
    assert len(files.frames) == 4
    # Flow 2 leads from image 1 to image 2; flow 1 from a frame that was never written.
    assert [x.name for x, _ in files.flow] == [f"flow_x_{k:05d}.jpg" for k in (2, 3, 4)]
    assert "flow_x_00001.jpg" in files.note


def test_as_many_frames_as_fields_are_not_guessed_to_be_tsns_but_hinted_at(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="--pairing second"):
        look(clip(tmp_path, img=range(1, 5), flow=range(1, 5)))


@pytest.mark.parametrize("n_frames", [0, 1, 3, 5])
def test_other_counts_are_uneven_with_the_second_frames_too(tmp_path: Path, n_frames: int) -> None:
    n_flow = 1 if n_frames == 1 else 4
    with pytest.raises(FolderError):
        look(clip(tmp_path, img=range(1, 1 + n_frames), flow=range(1, 1 + n_flow)), pairing="second")


def test_denseflow_that_lost_its_first_frame_is_not_taken_for_one_counted_from_1(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(5), flow=range(4))
    assert len(look(folder, "denseflow").frames) == 5
    (folder / "img_00000.jpg").unlink()
    with pytest.raises(FolderError, match=r"lacks img_00000\.jpg"):
        look(folder, "denseflow")


def test_denseflow_of_a_step_has_its_step_in_the_names(tmp_path: Path) -> None:
    folder = touch(tmp_path, *(f"img_{k:05d}.jpg" for k in range(5)))
    touch(folder, *(f"flow_{axis}_p2_{k:05d}.jpg" for k in range(3) for axis in "xy"))
    assert len(look(folder, "denseflow", step=2).flow) == 3


@pytest.mark.parametrize("prefix", ["", "flow_"])
@pytest.mark.parametrize("first", [0, 1])
def test_mmaction2_folders_have_either_names_and_either_start(
    tmp_path: Path, prefix: str, first: int
) -> None:
    folder = clip(tmp_path, img=range(first, first + 4), flow=range(first, first + 3), prefix=prefix)
    files = look(folder, "mmaction2")
    assert (len(files.frames), len(files.flow)) == (4, 3)


def test_frames_from_1_beside_flow_from_0_are_read_as_mmaction2s_scripts_make_them(tmp_path: Path) -> None:
    files = look(clip(tmp_path, img=range(1, 5), flow=range(3)), "mmaction2")
    assert (files.frames[0].name, files.flow[0][0].name) == ("img_00001.jpg", "flow_x_00000.jpg")


@pytest.mark.parametrize("removed", ["img_00000.jpg", "flow_x_00000.jpg", "img_00003.jpg"])
def test_an_mmaction2_folder_from_0_that_lost_a_file_is_not_complete(tmp_path: Path, removed: str) -> None:
    folder = clip(tmp_path, img=range(4), flow=range(3))
    (folder / removed).unlink()
    with pytest.raises(FolderError):
        look(folder, "mmaction2")


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
