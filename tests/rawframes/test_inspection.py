from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowkit.rawframes.frame_files import FolderError
from flowkit.rawframes.inspection import ClipFiles, FrameRange, Pairing, inspect
from flowkit.rawframes.layouts import readings
from flowkit.rawframes.layouts.layout import Kind
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
    folder: Path,
    layout: str = "tsn",
    *,
    step: int = 1,
    frames: bool = True,
    pairing: Pairing = "first",
    backward: bool = False,
    first_index: int | None = None,
    first_flow_index: int | None = None,
) -> ClipFiles:
    layouts = readings(layout, step=step, first_index=first_index, first_flow_index=first_flow_index)
    return inspect(folder, layouts, step=step, frames=frames, pairing=pairing, backward=backward)


def test_a_complete_folder_gives_its_files_in_order(tmp_path: Path) -> None:
    files = look(clip(tmp_path, img=range(1, 4), flow=range(1, 3)))
    assert [path.name for path in files.frames] == [f"img_{k:05d}.jpg" for k in (1, 2, 3)]
    assert [tuple(file.name for file in pair) for pair in files.flow] == [
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
    assert [pair[0].name for pair in files.flow] == [f"flow_x_{k:05d}.jpg" for k in (2, 3, 4)]
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


def test_backward_flow_is_numbered_by_the_frame_it_starts_from(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(4), flow=range(3))
    touch(folder, *(f"flow_{axis}_m1_{k:05d}.jpg" for k in range(1, 4) for axis in "xy"))
    files = look(folder, "denseflow", backward=True)
    assert [pair[0].name for pair in files.backward] == [f"flow_x_m1_{k:05d}.jpg" for k in (1, 2, 3)]
    assert len(files.flow) == 3
    assert not look(folder, "denseflow").backward
    (folder / "flow_x_m1_00003.jpg").unlink()
    (folder / "flow_y_m1_00003.jpg").unlink()
    with pytest.raises(FolderError, match=r"3 flow fields and 2 backward ones.*--no-backward"):
        look(folder, "denseflow", backward=True)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ("flow_x_p3_{:05d}.jpg", "--step 3"),
        ("flow_x_m2_{:05d}.jpg", "put both into one folder"),
    ],
)
def test_flow_of_another_step_or_direction_is_hinted_at(tmp_path: Path, names: str, hint: str) -> None:
    touch(tmp_path, *(f"img_{k:05d}.jpg" for k in range(4)), *(names.format(k) for k in range(3)))
    with pytest.raises(FolderError, match=hint):
        look(tmp_path, "denseflow")


@pytest.mark.parametrize(
    ("img", "flow"),
    [(range(5), range(4)), (range(5), range(1, 5)), (range(1, 6), range(4)), (range(7, 12), range(7, 11))],
)
@pytest.mark.parametrize("layout", ["tsn", "denseflow"])
def test_the_hint_on_numbers_leads_to_a_complete_clip(
    tmp_path: Path, layout: str, img: range, flow: range
) -> None:
    folder = clip(tmp_path, img=img, flow=flow)
    try:
        files = look(folder, layout)
    except FolderError as error:
        found = re.findall(r"--(first-index|first-flow-index) (\d+)", str(error))
        assert found
        options = {name: int(number) for name, number in found}
        first, first_flow = options.get("first-index"), options.get("first-flow-index")
        files = look(folder, layout, first_index=first, first_flow_index=first_flow)
    assert (len(files.frames), len(files.flow)) == (5, 4)
    assert (files.frames[0].name, files.flow[0][0].name) == (
        f"img_{img[0]:05d}.jpg",
        f"flow_x_{flow[0]:05d}.jpg",
    )


def test_a_gap_is_no_matter_of_numbers(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(1, 6), flow=range(1, 5))
    (folder / "img_00003.jpg").unlink()
    with pytest.raises(FolderError) as caught:
        look(folder)
    assert "--first" not in str(caught.value)


def test_some_frames_have_the_flow_between_them(tmp_path: Path) -> None:
    folder = clip(tmp_path, img=range(10), flow=range(8), prefix="flow_")
    files = inspect(folder, readings("denseflow"), step=2, frames=True)
    part = files.part(FrameRange(first=3, count=5), 2)
    assert [file.name for file in part.frames] == [f"img_{k:05d}.jpg" for k in range(3, 8)]
    assert [pair[0].name for pair in part.flow] == [f"flow_x_{k:05d}.jpg" for k in (3, 4, 5)]
    assert len(files.part(FrameRange(first=0, count=10), 2).flow) == 8
    for first, count in ((6, 5), (0, 2), (10, 3)):
        with pytest.raises(FolderError) as caught:
            files.part(FrameRange(first=first, count=count), 2)
        assert caught.value.reason == "false_count"


@pytest.mark.parametrize("n_flow", [4, 5])
def test_as_many_fields_as_frames_are_a_clip_where_the_layout_says_so(tmp_path: Path, n_flow: int) -> None:
    places: dict[Kind, Path] = {}
    kinds: tuple[tuple[Kind, int], ...] = (("img", 5), ("x", n_flow), ("y", n_flow))
    for kind, count in kinds:
        places[kind] = touch(tmp_path / kind, *(f"frame{k:06d}.jpg" for k in range(1, count + 1)))
    files = inspect(places["x"], readings("feichtenhofer"), step=1, frames=True, trees=places)
    assert (len(files.frames), len(files.flow)) == (5, 4)
    assert (files.note == "") == (n_flow == 4)
    assert files.frames[0].path.parent == places["img"]
