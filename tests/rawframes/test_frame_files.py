"""Clips in zips and as images other than JPEG: stored with the right pixels, or named with their suffix."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import flowkit
from flowkit.extraction.lists import ListEntry
from flowkit.quantize import dequantize_u8, quantize_u8
from flowkit.rawframes.folders import find_folders
from flowkit.rawframes.frame_files import FolderError, FrameFile, zip_members
from flowkit.rawframes.import_config import ImportConfig as Config
from flowkit.rawframes.importer import ImportReport, prepare
from flowkit.rawframes.layouts import readings
from tests.rawframes.conftest import make_flow, make_frames, opencv_folder, run_import


def zip_of(folder: Path, path: Path, inside: str = "") -> Path:
    """Pack the files of a folder, and remove it."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    shutil.rmtree(folder)
    return path


def dense_flow_zips(folder: Path, n_frames: int) -> Path:
    """Write a clip as dense_flow's zips: a zip for each kind, members x_, y_ and img_ from 1."""
    opencv_folder(folder, n_frames)
    for name, kind, start in (("img", "img", "img_"), ("flow_x", "x", "flow_x_"), ("flow_y", "y", "flow_y_")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for file in sorted(folder.glob(f"{start}*.jpg")):
                archive.write(file, f"{kind}_{file.name.removeprefix(start)}")
                file.unlink()
    return folder


def whole_zip(folder: Path, n_frames: int) -> Path:
    return zip_of(opencv_folder(folder, n_frames), folder.with_name(folder.name + ".zip"))


def nested_zip(folder: Path, n_frames: int) -> Path:
    return zip_of(
        opencv_folder(folder, n_frames), folder.with_name(folder.name + ".zip"), inside=f"{folder.name}/"
    )


@pytest.mark.parametrize("pack", [dense_flow_zips, whole_zip, nested_zip])
def test_a_zipped_clip_is_stored_byte_for_byte_with_the_id_of_its_folder(
    tmp_path: Path, pack: Callable[[Path, int], Path]
) -> None:
    plain = opencv_folder(tmp_path / "plain" / "walk" / "a", 4)
    pack(tmp_path / "in" / "walk" / "a", 4)
    report = run_import(tmp_path / "in", tmp_path / "out.h5")
    assert (report.stored, report.failures) == (1, ())
    with flowkit.open(tmp_path / "out.h5") as store:
        video = store.stored_video("walk/a")
        assert video.record.label == "walk"
        assert [video.frames[k] for k in range(4)] == [
            (plain / f"img_{k + 1:05d}.jpg").read_bytes() for k in range(4)
        ]
        assert [video.field("flow").chunks(k) for k in range(3)] == [
            tuple((plain / f"flow_{axis}_{k + 1:05d}.jpg").read_bytes() for axis in "xy") for k in range(3)
        ]
    assert run_import(tmp_path / "in", tmp_path / "out.h5").already_stored == 1


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".PNG"])
def test_images_of_another_kind_are_stored_with_their_pixels_and_a_word(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "in" / "walk" / "a"
    folder.mkdir(parents=True)
    frames, flow = make_frames(0, 4), make_flow(0, 3)
    for k, frame in enumerate(frames, 1):
        assert cv2.imwrite(str(folder / f"img_{k:05d}{suffix}"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    codes = np.stack([quantize_u8(field, bound_px=20)[0] for field in flow])
    for k, planes in enumerate(codes, 1):
        for plane, axis in zip(planes, "xy", strict=True):
            assert cv2.imwrite(str(folder / f"flow_{axis}_{k:05d}{suffix}"), plane)
    report = run_import(tmp_path / "in", tmp_path / "out.h5")
    assert (report.stored, report.failures) == (1, ())
    assert f"4 {suffix} frames" in report.outcomes[0].warnings[0]
    assert f"6 {suffix} flow images" in report.outcomes[0].warnings[1]
    with flowkit.open(tmp_path / "out.h5") as store:
        # JPEG of quality 100 changes smooth codes by rounding alone; one code is 40/255 px.
        assert np.abs(store["walk/a"].flow() - dequantize_u8(codes, bound_px=20)).max() <= 2.01 * 40 / 255
        stored = store["walk/a"].frames(range(4)).astype(int)
        assert np.abs(stored - frames).mean() < 6  # quality 95 with halved colour, on noise
        assert suffix in store["walk/a"].record.status_reason
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_one_clip_may_mix_suffixes_and_a_number_is_taken_once(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in" / "a", 4)
    frame = cv2.imread(str(folder / "img_00002.jpg"))
    assert frame is not None
    assert cv2.imwrite(str(folder / "img_00002.png"), frame)  # beside its JPEG, which counts
    assert cv2.imwrite(str(folder / "img_00003.png"), frame)
    (folder / "img_00003.jpg").unlink()
    run_import(tmp_path / "in", tmp_path / "out.h5")
    with flowkit.open(tmp_path / "out.h5") as store:
        video = store.stored_video("a")
        assert video.frames[1] == (folder / "img_00002.jpg").read_bytes()
        assert "1 .png frames" in video.record.status_reason


@pytest.mark.parametrize(
    "suffix",
    [
        *(".png", ".gif", ".ppm", ".flo", ".npy", ".pkl", ".mp4", ".h5", ""),
        *(".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_folder_of_any_other_files_is_a_failure_with_their_suffix(
    tmp_path: Path, suffix: str, beside: bool
) -> None:
    opencv_folder(tmp_path / "in" / "walk" / "a", 3)
    folder = tmp_path / "in" / "walk" / ("" if beside and suffix in (".zip", ".tar", ".7z") else "b")
    folder.mkdir(exist_ok=True)
    (folder / f"frame0001{suffix}").write_bytes(b"x" * 99)
    report = run_import(tmp_path / "in", tmp_path / "out.h5")
    assert report.stored == 1
    (failure,) = report.failures
    assert failure.reason in ("unknown_names", "unopenable")
    assert (Path("x" + suffix).suffix or "without suffix") in failure.detail
    assert str(folder) in failure.source


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "walk" / "a", 3)
    for name in ("walk/a.zip", "walk/a.tar.gz", "walk.zip", "walk/poster.jpg", "annotations/all/rgb.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    (tmp_path / "in" / "notes.flo").write_bytes(b"x")
    found = find_folders(tmp_path / "in", readings("tsn"))
    assert ([source.video_id for source in found.sources], found.failures) == (["walk/a"], ())
    said = "\n".join(sorted(found.ignored))
    for word in ("walk/a.zip", "walk/a.tar.gz", "walk.zip", "1 .jpg", "1 .txt", "1 .flo"):
        assert word in said


def test_the_command_says_what_is_passed_over_with_quiet_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flowkit_cli.reporter import Reporter

    opencv_folder(tmp_path / "in" / "walk" / "a", 3)
    (tmp_path / "in" / "walk" / "a.zip").write_bytes(b"x")
    Reporter(as_json=False, quiet=True).plan_import(prepare(tmp_path / "in", tmp_path / "out.h5", Config()))
    assert "a.zip: the folder beside it is taken" in capsys.readouterr().err


def test_a_zip_takes_the_place_of_an_empty_folder_of_its_name(tmp_path: Path) -> None:
    whole_zip(tmp_path / "in" / "walk" / "a", 3)
    (tmp_path / "in" / "walk" / "a").mkdir()
    report = run_import(tmp_path / "in", tmp_path / "out.h5")
    assert (report.stored, [failure.reason for failure in report.failures]) == (1, ["empty_folder"])


def only_failure(report: ImportReport) -> tuple[str, str]:
    assert report.stored == 0
    (failure,) = report.failures
    return failure.reason, failure.detail


def test_a_zip_of_several_clips_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "walk.zip", "w") as archive:
        for clip in "ab":
            archive.writestr(f"{clip}/img_00001.jpg", b"x")
    reason, detail = only_failure(run_import(tmp_path / "in", tmp_path / "out.h5"))
    assert reason == "several_folders"
    assert ".zip holds files of 2 folders, such as a and b" in detail


@pytest.mark.parametrize("damage", ["cut", "member", "encrypted", "no directory"])
def test_a_damaged_zip_is_one_failure_without_a_traceback(tmp_path: Path, damage: str) -> None:
    path = whole_zip(tmp_path / "in" / "walk" / "a", 3)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "member":
        at = data.index(b"flow_x_00002.jpg") + 40
        data[at : at + 60] = bytes(60)
    elif damage == "encrypted":
        at = data.index(b"PK\x01\x02")
        while at >= 0:
            data[at + 8] |= 1
            at = data.find(b"PK\x01\x02", at + 4)
    else:
        data = data[:-1]
    path.write_bytes(data)
    reason, detail = only_failure(run_import(tmp_path / "in", tmp_path / "out.h5"))
    assert reason == "unopenable"
    assert "a.zip" in detail
    assert "Traceback" not in detail


def test_flow_of_colours_or_more_bits_is_refused(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in" / "a", 2)
    (folder / "flow_x_00001.jpg").unlink()
    assert cv2.imwrite(str(folder / "flow_x_00001.png"), np.zeros((16, 24), np.uint16))
    reason, detail = only_failure(run_import(tmp_path / "in", tmp_path / "out.h5"))
    assert reason == "decode_error"
    assert "1 channels of uint16" in detail
    colours = np.zeros((16, 24, 3), np.uint8)
    colours[..., 0] = 9
    assert cv2.imwrite(str(folder / "flow_x_00001.png"), colours)
    assert "3 channels of uint8" in only_failure(run_import(tmp_path / "in", tmp_path / "out.h5"))[1]


@pytest.mark.parametrize("listed", ["walk/a", "walk/a.zip"])
def test_a_list_names_a_zip_with_or_without_its_suffix(tmp_path: Path, listed: str) -> None:
    whole_zip(tmp_path / "in" / "walk" / "a", 3)
    run_import(tmp_path / "in", tmp_path / "out.h5", entries=[ListEntry(path=listed, label="run")])
    with flowkit.open(tmp_path / "out.h5") as store:
        assert [(video_id, store[video_id].record.label) for video_id in store] == [("walk/a", "run")]


def test_hidden_files_and_a_desktops_are_no_part_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a/img_00001.jpg", "a/.DS_Store", "__MACOSX/a/._img_00001.jpg"):
            archive.writestr(name, b"x")
    assert list(zip_members(tmp_path / "a.zip")) == ["img_00001.jpg"]


def test_a_member_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowkit.rawframes.frame_files._LARGEST_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img_00001.jpg", bytes(2000))
    with pytest.raises(FolderError, match="larger than"):
        FrameFile(tmp_path / "a.zip", "img_00001.jpg").read_bytes()
