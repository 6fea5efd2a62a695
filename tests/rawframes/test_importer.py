from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import flowkit
from flowkit.errors import InputError, InvalidParameterError, StoreOptionsError
from flowkit.extraction.lists import ListEntry, parse_list
from flowkit.rawframes.inspection import inspect
from flowkit.store.inventory import inventory
from tests.make.deadline import ends_in_time
from tests.rawframes.conftest import (
    MakeStore,
    contents,
    opencv_folder,
    run_export,
    run_import,
)


@pytest.mark.parametrize("layout", ["tsn", "denseflow", "mmaction2"])
@pytest.mark.parametrize("codec", ["q8", "i8", "jpeg"])
def test_export_import_export_gives_back_every_byte(
    make_store: MakeStore, tmp_path: Path, layout: str, codec: str
) -> None:
    store = make_store({"walk/a": 5, "walk/b": 2, "run/c": 3, "d": 3}, flow_codec=codec)
    run_export(store, tmp_path / "one", layout, list_prefix="")
    report = run_import(tmp_path / "one", tmp_path / "in.h5", layout)
    assert (report.stored, report.failures) == (4, ())
    assert flowkit.verify(tmp_path / "in.h5").sound
    run_export(tmp_path / "in.h5", tmp_path / "two", layout, list_prefix="")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_jpeg_store_comes_back_with_its_flow_frames_and_labels(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store = make_store({"walk/a": 5, "run/c": 3}, flow_codec="jpeg", bound_px=15.0)
    run_export(store, tmp_path / "out")
    run_import(tmp_path / "out", tmp_path / "in.h5", bound_px=15.0)
    with flowkit.open(store) as one, flowkit.open(tmp_path / "in.h5") as two:
        assert (list(two), two.labels) == (list(one), one.labels)
        for video_id in one:
            assert np.array_equal(two[video_id].flow(), one[video_id].flow())
            assert np.array_equal(two[video_id].frames(range(3)), one[video_id].frames(range(3)))
            assert np.array_equal(two[video_id].pts, one[video_id].pts)
            assert two[video_id].label == one[video_id].label


def test_flow_survives_within_the_jpeg_codecs_error(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 4})
    run_export(store, tmp_path / "out")
    run_import(tmp_path / "out", tmp_path / "in.h5")
    with flowkit.open(store) as one, flowkit.open(tmp_path / "in.h5") as two:
        error = np.abs(one["a"].flow() - two["a"].flow())
    # Half a code of 40/255 px, and what JPEG at quality 95 does to a smooth plane: a few codes at most.
    assert float(error.mean()) < 0.15
    assert float(error.max()) < 1.0


def test_each_bad_folder_costs_only_itself_and_has_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "in"
    opencv_folder(root / "ok", 3)
    (opencv_folder(root / "gap", 4) / "flow_x_00002.jpg").unlink()
    (opencv_folder(root / "uneven", 4) / "flow_y_00003.jpg").unlink()
    opencv_folder(root / "counts", 5, n_flow=2)
    cut = opencv_folder(root / "cut", 3) / "img_00002.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    (opencv_folder(root / "junk", 3) / "flow_x_00001.jpg").write_bytes(b"junk")
    odd = opencv_folder(root / "odd", 3) / "img_00003.jpg"
    assert cv2.imwrite(str(odd), np.zeros((8, 8, 3), np.uint8))
    (root / "empty").mkdir()
    report = run_import(root, tmp_path / "out.h5")
    reasons = {Path(failure.source).name: failure.reason for failure in report.failures}
    assert reasons == {
        "gap": "missing_files",
        "uneven": "uneven_flow",
        "counts": "uneven_counts",
        "cut": "decode_error",
        "junk": "decode_error",
        "odd": "size_mismatch",
        "empty": "empty_folder",
    }
    with flowkit.open(tmp_path / "out.h5") as store:
        assert list(store) == ["ok"]
        assert {Path(failure.source).name for failure in store.failures} == set(reasons)
    assert len((tmp_path / "out.h5.failures.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ZeroDivisionError("a fault of ours"), "internal_error"), (MemoryError(), "out_of_memory")],
)
def test_a_fault_that_one_folder_brings_to_light_costs_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def faulty(folder: Path, *args: object, **options: object) -> object:
        if folder.name == "b":
            raise error
        return inspect(folder, *args, **options)  # type: ignore[arg-type]

    for name in ("a", "b", "c"):
        opencv_folder(tmp_path / "in" / name, 3)
    with monkeypatch.context() as patch:
        patch.setattr("flowkit.rawframes.import_worker.inspect", faulty)
        report = run_import(tmp_path / "in", tmp_path / "out.h5")
    (failure,) = report.failures
    assert (Path(failure.source).name, failure.reason) == ("b", reason)
    assert str(error) in failure.detail
    with flowkit.open(tmp_path / "out.h5") as store:
        assert list(store) == ["a", "c"]
        assert [failure.reason for failure in store.failures] == [reason]
    assert run_import(tmp_path / "in", tmp_path / "out.h5").stored == 1


def test_a_mended_folder_is_imported_and_leaves_the_ledger(tmp_path: Path) -> None:
    root = tmp_path / "in"
    opencv_folder(root / "a", 3)
    broken = opencv_folder(root / "b", 3) / "img_00002.jpg"
    whole = broken.read_bytes()
    broken.unlink()
    assert len(run_import(root, tmp_path / "out.h5").failures) == 1
    broken.write_bytes(whole)
    report = run_import(root, tmp_path / "out.h5")
    assert (report.stored, report.already_stored, report.failures) == (1, 1, ())
    assert not (tmp_path / "out.h5.failures.jsonl").exists()


def test_a_list_chooses_clips_and_gives_labels(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("v_a", "v_b", "v_c"):
        opencv_folder(root / name, 3)
    lines = [f"{root}/v_b 3 0", f"{root}/v_a 3 1"]
    entries = parse_list(lines, source="list", classes={0: "run", 1: "walk"}).entries
    run_import(root, tmp_path / "out.h5", entries=entries)
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {video_id: store[video_id].label for video_id in store} == {"v_a": "walk", "v_b": "run"}


def test_a_clip_that_a_list_names_and_that_is_not_there_fails_alone(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "a", 3)
    entries = [ListEntry(path="a", label="x"), ListEntry(path="gone", label="x")]
    report = run_import(tmp_path / "in", tmp_path / "out.h5", entries=entries)
    assert report.stored == 1
    assert [failure.reason for failure in report.failures] == ["unopenable"]


def test_a_changed_folder_is_reported_and_redone_when_asked(tmp_path: Path) -> None:
    root, store = tmp_path / "in", tmp_path / "out.h5"
    opencv_folder(root / "a", 3)
    run_import(root, store)
    shutil.rmtree(root / "a")
    opencv_folder(root / "a", 5)
    report = run_import(root, store)
    assert [failure.reason for failure in report.failures] == ["source_changed"]
    assert run_import(root, store, update=True).stored == 1
    assert inventory(store).records["a"].n_frames == 5


def test_another_bound_on_an_existing_store_is_refused(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "a", 3)
    run_import(tmp_path / "in", tmp_path / "out.h5")
    with pytest.raises(StoreOptionsError, match="bound"):
        run_import(tmp_path / "in", tmp_path / "out.h5", bound_px=32.0)


def test_a_folder_without_clips_is_an_error_that_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in" / "walk").mkdir(parents=True)
    (tmp_path / "in" / "walk" / "notes.txt").write_text("no images")
    with pytest.raises(InputError, match=r"img_00001\.jpg"):
        run_import(tmp_path / "in", tmp_path / "out.h5")
    with pytest.raises(InputError, match="no such folder"):
        run_import(tmp_path / "gone", tmp_path / "out.h5")


@pytest.mark.parametrize(
    "choices",
    [
        {"layout": "webdataset"},
        {"layout": "flo", "templates": ("flo=%05d.jpg",)},
        {"layout": "flo", "backward": True},
        {"flow_codec": "i8"},
        {"unknown": "zero"},
        {"layout": "npy", "unknown": "keep"},
        {"method_name": ""},
        {"method_name": "ra\nft"},
        {"fps": 0.0},
        {"step": 0},
        {"step": 2, "pairing": "second"},
        {"bound_px": 0.0},
        {"templates": ("x=no.jpg",)},
    ],
)
def test_impossible_choices_are_refused_before_anything_is_read(
    tmp_path: Path, choices: dict[str, object]
) -> None:
    with pytest.raises(InvalidParameterError):
        run_import(tmp_path, tmp_path / "out.h5", **choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["pipe", "zero", "claims", "number"])
def test_a_hostile_folder_costs_its_clip_alone(tmp_path: Path, bad: str) -> None:
    opencv_folder(tmp_path / "all" / "good", 3)
    folder = opencv_folder(tmp_path / "all" / "bad", 3, seed=1)
    image = folder / "img_00002.jpg"
    data = bytearray(image.read_bytes())
    if bad == "number":
        image.rename(folder / "img_99999999999.jpg")
    else:
        image.unlink()
    if bad == "pipe":
        os.mkfifo(image)
    elif bad == "zero":
        image.symlink_to("/dev/zero")
    elif bad == "claims":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = b"\xff\xdc\xff\xdc"
        image.write_bytes(data)
    report = ends_in_time(lambda: run_import(tmp_path / "all", tmp_path / "x.h5"), seconds=20)
    assert report.stored == 1
    (failure,) = report.failures
    assert failure.reason == ("missing_files" if bad == "number" else "decode_error")
