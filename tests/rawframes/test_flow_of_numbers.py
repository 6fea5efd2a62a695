"""Flow of any method into a store: out in each layout of numbers and in again, unknown pixels, bad clips."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit import jpeg
from flowkit.errors import InputError, InvalidParameterError, StoreOptionsError
from flowkit.extraction.lists import parse_list
from flowkit.flow_files.flo import write_flo
from flowkit.flow_files.kitti import kitti_bytes
from flowkit.rawframes.import_config import ImportConfig
from flowkit.store.codecs import DEFAULT_FLOW_CODEC, FLOW_CODECS, clipped_warning
from flowkit.store.inventory import inventory
from tests.make.deadline import ends_in_time
from tests.rawframes.conftest import (
    HEIGHT,
    WIDTH,
    MakeStore,
    contents,
    make_flow,
    make_frames,
    names_in,
    run_export,
    run_import,
)

CLIPS = {"walk/a": 5, "walk/b": 3, "run/c.d": 4, "e": 3}
NUMBERS = ("flo", "kitti", "npy")


def write_numbers(folder: Path, n_frames: int, *, layout: str = "flo", frames: bool = True) -> Path:
    """Write a clip as other people's scripts do: numbered from 1, or arrays with u and v last."""
    folder.mkdir(parents=True)
    flow = make_flow(0, n_frames - 1)
    if layout == "npy":
        np.save(folder / "flow.npy", flow.transpose(0, 2, 3, 1))
        if frames:
            np.save(folder / "frames.npy", make_frames(0, n_frames))
        return folder
    for k, field in enumerate(flow, 1):
        if layout == "flo":
            write_flo(folder / f"flow_{k:05d}.flo", field)
        else:
            (folder / f"flow_{k:05d}.png").write_bytes(kitti_bytes(field))
    for k, frame in enumerate(make_frames(0, n_frames) if frames else (), 1):
        assert cv2.imwrite(str(folder / f"img_{k:05d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def frames_of(path: Path, video_id: str) -> list[bytes]:
    with flowkit.open(path) as store:
        video = store.stored_video(video_id)
        return [video.frames[k] for k in range(video.record.n_frames)]


def flow_of(path: Path, video_id: str = "a") -> NDArray[np.float32]:
    with flowkit.open(path) as store:
        return store[video_id].flow()


@pytest.mark.parametrize("layout", NUMBERS)
@pytest.mark.parametrize(("codec", "step"), [("q8", 1), ("i8", 1), ("i16", 1), ("i16", 2), ("jpeg", 1)])
def test_a_store_comes_back_with_its_flow_frames_ids_and_labels(
    make_store: MakeStore, tmp_path: Path, layout: str, codec: str, step: int
) -> None:
    path = make_store(CLIPS, flow_codec=codec, step=step)
    run_export(path, tmp_path / "out", layout)
    report = run_import(tmp_path / "out", tmp_path / "in.h5", layout, flow_codec="i16", step=step)
    assert (report.stored, report.failures) == (len(CLIPS), ())
    assert flowkit.verify(tmp_path / "in.h5").sound
    with flowkit.open(path) as one, flowkit.open(tmp_path / "in.h5") as two:
        assert (list(two), two.labels) == (list(one), one.labels)
        for video_id in one:
            assert two[video_id].label == one[video_id].label
            error = np.abs(two[video_id].flow() - one[video_id].flow())
            # i8 and i16 are multiples of 1/64 px; others are not, and are rounded once or twice.
            assert float(error.max()) <= (0 if codec in ("i8", "i16") else 2 / 128)
            kept = frames_of(path, video_id)
            if layout == "npy":  # which keeps pixels, so that they are encoded once more
                kept = [jpeg.encode(jpeg.decode(data), 95) for data in kept]
            assert frames_of(tmp_path / "in.h5", video_id) == kept


# KITTI's files round to 1/64 px: a codec of whole multiples gives them back.
@pytest.mark.parametrize(
    ("layout", "codec"), [("flo", "q8"), ("flo", "i8"), ("kitti", "i8"), ("kitti", "i16")]
)
def test_export_import_export_gives_back_every_byte(
    make_store: MakeStore, tmp_path: Path, layout: str, codec: str
) -> None:
    store = make_store(CLIPS, flow_codec=codec)
    run_export(store, tmp_path / "one", layout)
    run_import(tmp_path / "one", tmp_path / "in.h5", layout, flow_codec=codec)
    run_export(tmp_path / "in.h5", tmp_path / "two", layout)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize("layout", NUMBERS)
@pytest.mark.parametrize("codec", [None, "i16", "jpeg"])
def test_flow_is_within_half_a_step_of_the_codec(tmp_path: Path, layout: str, codec: str | None) -> None:
    write_numbers(tmp_path / "in" / "a", 4, layout=layout)
    report = run_import(tmp_path / "in", tmp_path / "out.h5", layout, flow_codec=codec)
    assert (report.stored, report.failures) == (1, ())
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store.options.flow_codec == (codec or DEFAULT_FLOW_CODEC)
        scale = float(store.stored_video("a").field("flow").scales.max())
        record = store["a"].record
    files = 1 / 128 if layout == "kitti" else 0.0
    # JPEG itself changes a code of a smooth plane by a few.
    limit = scale / 2 + files if codec != "jpeg" else 6 * scale
    flow = make_flow(0, 3)
    assert float(np.abs(flow_of(tmp_path / "out.h5") - flow).max()) <= limit + 1e-6
    assert record.flow_max_px == pytest.approx(float(np.abs(flow).max()), abs=files + 1e-6)
    assert (record.n_frames, record.n_flow, record.clipped_fraction) == (4, 3, 0)


@pytest.mark.parametrize("codec", FLOW_CODECS)
def test_an_import_goes_on_with_the_codec_of_its_store(tmp_path: Path, codec: str) -> None:
    write_numbers(tmp_path / "in" / "a", 4)
    run_import(tmp_path / "in", tmp_path / "out.h5", "flo", flow_codec=codec)
    write_numbers(tmp_path / "in" / "b", 4)
    report = run_import(tmp_path / "in", tmp_path / "out.h5", "flo")
    assert (report.stored, report.already_stored) == (1, 1)
    with flowkit.open(tmp_path / "out.h5") as store:
        assert store.options.flow_codec == codec


def test_frames_of_png_are_encoded_and_said(tmp_path: Path) -> None:
    write_numbers(tmp_path / "in" / "a", 3)
    (outcome,) = run_import(tmp_path / "in", tmp_path / "out.h5", "flo").outcomes
    assert outcome.warnings == ("3 .png frames are stored as JPEG of quality 95",)
    expected = [jpeg.encode(frame, 95) for frame in make_frames(0, 3)]
    assert frames_of(tmp_path / "out.h5", "a") == expected
    assert inventory(tmp_path / "out.h5").records["a"].status_reason == outcome.warnings[0]


@pytest.mark.parametrize("layout", NUMBERS)
def test_flow_alone_is_imported_where_frames_are_not_wanted(tmp_path: Path, layout: str) -> None:
    write_numbers(tmp_path / "in" / "a", 3, layout=layout, frames=False)
    report = run_import(tmp_path / "in", tmp_path / "out.h5", layout)
    assert [failure.reason for failure in report.failures] == ["no_frames"]
    assert "--frames none" in report.failures[0].detail
    assert run_import(tmp_path / "in", tmp_path / "flow.h5", layout, frame_codec="none").stored == 1


def test_arrays_are_clips_by_their_folder_or_their_name(tmp_path: Path) -> None:
    root, flow = tmp_path / "in", make_flow(0, 3)
    for folder in ("walk/a", "walk", "run/b"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / "walk/a/flow.npz", flow=flow, valid=np.ones(3))
    np.save(root / "walk/a/other.npy", flow)  # beside flow.npz it is no clip
    np.save(root / "walk/c.1.npy", flow.astype(np.float16))
    np.savez(root / "run/b/flow.npz", flow)
    np.save(root / "run/scores.npy", np.zeros(3))
    np.save(root / "top.npy", flow)
    (root / "run/notes.txt").write_text("text")
    report = run_import(root, tmp_path / "out.h5", "npy", frame_codec="none", flow_codec="i16")
    assert (report.stored, report.failures) == (4, ())
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {video_id: store[video_id].label for video_id in store} == {
            "run/b": "run",
            "top": "",
            "walk/a": "walk",
            "walk/c.1": "walk",
        }
        for video_id in store:
            # float16 has steps of 1/64 px from 16 px on.
            limit = 1 / 128 + (1 / 128 if video_id == "walk/c.1" else 0)
            assert np.abs(store[video_id].flow() - flow).max() <= limit


def test_a_list_chooses_arrays_and_gives_labels_and_ranges(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("a", "b"):
        write_numbers(root / name, 6, layout="npy")
    np.save(root / "c.npy", make_flow(2, 5))
    known = ImportConfig(layout="npy").is_clip
    assert [known(root, name) for name in ("a", "c", "c.npy", "d")] == [True, True, True, False]
    for lines in (["b 6 0", "c.npy 6 1"], ["a 2 3 1"]):
        entries = parse_list(lines, source="list", classes={0: "run", 1: "walk"}, of_folders=True).entries
        run_import(root, tmp_path / "out.h5", "npy", entries=entries, frame_codec="none", flow_codec="i16")
    with flowkit.open(tmp_path / "out.h5") as store:
        assert {video_id: store[video_id].label for video_id in store} == {
            "a_f000002_000005": "walk",
            "b": "run",
            "c": "walk",
        }
        part = store["a_f000002_000005"].flow()
    assert np.abs(part - make_flow(0, 5)[2:4]).max() <= 1 / 128


def test_templates_take_other_names_formats_and_trees(tmp_path: Path) -> None:
    """Sintel's folders: clean/<clip>/frame_0001.png and flow/<clip>/frame_0001.flo."""
    write_numbers(tmp_path / "made" / "alley_1", 4)
    for kind, suffix in (("clean", "png"), ("flow", "flo")):
        (tmp_path / "in" / kind / "alley_1").mkdir(parents=True)
        for path in (tmp_path / "made").rglob(f"*.{suffix}"):
            number = int(path.stem.rpartition("_")[2])
            path.rename(tmp_path / "in" / kind / "alley_1" / f"frame_{number:04d}.{suffix}")
    templates = ("img=clean/{id}/frame_%04d.png", "flo=flow/{id}/frame_%04d.flo")
    assert run_import(tmp_path / "in", tmp_path / "a.h5", "flo", templates=templates).stored == 1
    for k, field in enumerate(make_flow(0, 3)):
        np.save(tmp_path / "in" / f"{k:06d}.npy", field)
    report = run_import(
        tmp_path / "in", tmp_path / "b.h5", "flo", templates=("flo=%06d.npy",), frame_codec="none"
    )
    assert [outcome.video_id for outcome in report.outcomes] == ["in"]
    assert np.array_equal(flow_of(tmp_path / "a.h5", "alley_1"), flow_of(tmp_path / "b.h5", "in"))


def test_an_export_writes_the_format_of_its_templates_suffix(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store({"a": 3})
    run_export(store, tmp_path / "out", "flo", content="flow", templates=("flo=%06d.npy",))
    assert names_in(tmp_path / "out" / "a") == ["000000.npy", "000001.npy"]
    assert np.array_equal(np.load(tmp_path / "out/a/000001.npy"), flow_of(store)[1])


def test_flow_beyond_kittis_range_costs_its_clip(make_store: MakeStore, tmp_path: Path) -> None:
    report = run_export(make_store({"a": 3}, px=400.0), tmp_path / "out", "kitti")
    (failure,) = report.failures
    assert failure.reason == "write_error"
    assert "within -512 and 511.984 px" in failure.detail
    assert not (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("layout", NUMBERS)
def test_unknown_pixels_are_refused_or_zero_and_said(tmp_path: Path, layout: str) -> None:
    write_numbers(tmp_path / "in" / "known", 3, layout=layout)
    folder = write_numbers(tmp_path / "in" / "a", 3, layout=layout)
    flow = make_flow(0, 2)
    flow[1, :, :2] = np.nan
    if layout == "npy":
        flow[1, 1, :2] = 5  # either component unknown makes the pixel unknown
        np.save(folder / "flow.npy", flow)
    elif layout == "flo":
        write_flo(folder / "flow_00002.flo", flow[1])
    else:
        (folder / "flow_00002.png").write_bytes(kitti_bytes(flow[1]))
    report = run_import(tmp_path / "in", tmp_path / "out.h5", layout)
    (failure,) = report.failures
    share = f"{2 * WIDTH} of {WIDTH * HEIGHT} pixels is unknown (12.50%)"
    assert failure.reason == "unknown_pixels"
    assert share in failure.detail
    assert "--unknown zero" in failure.detail
    assert list(inventory(tmp_path / "out.h5").records) == ["known"]

    # The same store goes on: what is unknown is of each clip.
    report = run_import(tmp_path / "in", tmp_path / "out.h5", layout, unknown="zero")
    assert (report.stored, report.failures) == (1, ())
    said = f"flow was unknown in {2 * WIDTH} of {2 * WIDTH * HEIGHT} pixels (6.25%) and is stored as 0 there"
    assert said in report.outcomes[0].warnings
    records = inventory(tmp_path / "out.h5").records
    assert said in records["a"].deviations
    assert "unknown in" not in records["known"].deviations
    stored = flow_of(tmp_path / "out.h5")
    assert not stored[1, :, :2].any()
    assert stored[1, :, 2:].any()


@pytest.mark.parametrize(("name", "kept"), [("raft", "raft"), (None, "unknown")])
def test_the_store_names_the_method_and_marks_it_imported(
    tmp_path: Path, name: str | None, kept: str
) -> None:
    write_numbers(tmp_path / "in" / "a", 3)
    run_import(tmp_path / "in", tmp_path / "out.h5", "flo", method_name=name)
    with flowkit.open(tmp_path / "out.h5") as store:
        (field,) = store.options.fields
        assert (field.method, field.summary) == (kept, f"{kept} preset imported")
        assert json.loads(field.tvl1_params) == {"method": kept, "params": {}, "versions": {}}
        record = store["a"].record
    assert record.backend == "imported"
    assert f"flow by method {kept}:" in record.deviations
    with pytest.raises(StoreOptionsError, match="gmflow"):
        run_import(tmp_path / "in", tmp_path / "out.h5", "flo", method_name="gmflow")


def test_flow_beyond_the_codec_is_counted_and_said(tmp_path: Path) -> None:
    flow = make_flow(0, 2)
    flow[:, :, :4] = 600
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", flow)
    choices = {"frame_codec": "none", "flow_codec": "i16"}
    (outcome,) = run_import(tmp_path / "in", tmp_path / "out.h5", "npy", **choices).outcomes
    assert outcome.warnings == (clipped_warning("i16", 0.25, largest_px=600),)
    assert inventory(tmp_path / "out.h5").records["a"].clipped_fraction == 0.25
    with flowkit.open(tmp_path / "out.h5") as store:
        clipped = store["a"].clipped()
    assert clipped is not None
    assert clipped.tolist() == [flow[0].size // 4] * 2
    assert flowkit.verify(tmp_path / "out.h5").sound
    (outcome,) = run_import(tmp_path / "in", tmp_path / "i8.h5", "npy", frame_codec="none").outcomes
    assert outcome.warnings == ()


def bad_flo(folder: Path, bad: str) -> str:
    """Damage a clip of .flo files; return the reason that it must have."""
    path = folder / "flow_00002.flo"
    if bad == "gap":
        path.unlink()
        return "missing_files"
    if bad == "size":
        path.unlink()
        write_flo(path, np.zeros((2, 4, 6), np.float32))
        return "size_mismatch"
    if bad == "frames":
        (folder / "img_00004.png").unlink()
        return "uneven_counts"
    data = path.read_bytes()
    path.unlink()
    if bad == "pipe":
        os.mkfifo(path)
    elif bad == "claims":
        path.write_bytes(data[:4] + b"\xff\xff\x00\x00" * 2)
    else:
        path.write_bytes(data[:-5])
    return "decode_error"


@pytest.mark.parametrize("bad", ["gap", "size", "frames", "pipe", "claims", "cut"])
def test_a_bad_clip_of_files_costs_itself(tmp_path: Path, bad: str) -> None:
    write_numbers(tmp_path / "in" / "good", 4)
    reason = bad_flo(write_numbers(tmp_path / "in" / "bad", 4), bad)
    report = ends_in_time(lambda: run_import(tmp_path / "in", tmp_path / "out.h5", "flo"), seconds=20)
    assert report.stored == 1
    assert [(Path(each.source).name, each.reason) for each in report.failures] == [("bad", reason)]


def bad_array(folder: Path, bad: str) -> str:
    """Damage a clip of arrays; return the reason that it must have."""
    path = folder / "flow.npy"
    data = path.read_bytes()
    if bad == "two":
        np.savez(folder / "flow.npz", np.load(path))
        return "several_arrays"
    if bad == "counts":
        np.save(folder / "frames.npy", make_frames(0, 9))
        return "uneven_counts"
    if bad == "sizes":
        np.save(folder / "frames.npy", np.zeros((4, 6, 6, 3), np.uint8))
        return "size_mismatch"
    if bad == "no flow":
        path.unlink()
        return "no_flow"
    path.unlink()
    if bad == "pipe":
        os.mkfifo(path)
    elif bad == "pickle":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif bad == "shape":
        np.save(path, np.zeros((3, 4, 5), np.float32))
    elif bad == "frames":
        path.write_bytes(data)
        np.save(folder / "frames.npy", np.zeros((4, HEIGHT, WIDTH, 3), np.float32))
    else:
        path.write_bytes(data[:-5])
    return "decode_error"


@pytest.mark.parametrize(
    "bad", ["two", "counts", "sizes", "no flow", "pipe", "pickle", "shape", "frames", "cut"]
)
def test_a_bad_clip_of_arrays_costs_itself(tmp_path: Path, bad: str) -> None:
    write_numbers(tmp_path / "in" / "good", 4, layout="npy")
    reason = bad_array(write_numbers(tmp_path / "in" / "bad", 4, layout="npy"), bad)
    report = ends_in_time(lambda: run_import(tmp_path / "in", tmp_path / "out.h5", "npy"), seconds=20)
    assert report.stored == 1
    assert [(Path(each.source).name, each.reason) for each in report.failures] == [("bad", reason)]


def test_arrays_by_name_that_cannot_be_read_and_folders_without_any_are_failures(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_numbers(root / "good", 3, layout="npy")
    for name in ("empty", "images", "arrays"):
        (root / name).mkdir()
    (root / "images" / "img_00001.jpg").touch()
    (root / "arrays" / "cut.npy").write_bytes(b"\x93NUMPY")
    np.save(root / "arrays" / "fine.npy", make_flow(0, 2))
    report = run_import(root, tmp_path / "out.h5", "npy", frame_codec="none")
    assert report.stored == 2
    assert {Path(each.source).name: each.reason for each in report.failures} == {
        "cut.npy": "decode_error",
        "empty": "empty_folder",
        "images": "no_flow",
    }


def test_no_clip_at_all_is_an_error_that_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("text")
    for layout, names in (("npy", r"flow\.npy"), ("flo", r"flow_00000\.flo"), ("kitti", r"flow_00000\.png")):
        with pytest.raises(InputError, match=names):
            run_import(tmp_path / "in", tmp_path / "out.h5", layout)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("frame_0001.flo", "--layout flo --template flo=frame_%04d.flo"),
        ("raft_3.npy", "--template flo=raft_%d.npy, and arrays of whole clips --layout npy"),
        ("flow.npy", "rename it, and arrays of whole clips --layout npy"),
        ("flow.npz", "arrays of whole clips are --layout npy"),
    ],
)
def test_flow_of_numbers_in_an_import_of_images_is_answered_with_options(
    tmp_path: Path, name: str, hint: str
) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / name).touch()
    (failure,) = run_import(tmp_path / "in", tmp_path / "out.h5").failures
    assert failure.reason == "unknown_names"
    assert hint in failure.detail


def test_images_are_kept_so_that_no_codec_is_chosen_for_them() -> None:
    with pytest.raises(InvalidParameterError, match="flowkit recode"):
        ImportConfig(layout="tsn", flow_codec="i8")


@pytest.mark.parametrize("layout", ["flo", "kitti"])
def test_a_zip_is_as_good_as_its_folder(tmp_path: Path, layout: str) -> None:
    folder = write_numbers(tmp_path / "made" / "a", 3, layout=layout)
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"a/{path.name}")
    assert run_import(tmp_path / "made", tmp_path / "one.h5", layout).stored == 1
    assert run_import(tmp_path / "in", tmp_path / "two.h5", layout).stored == 1
    assert np.array_equal(flow_of(tmp_path / "one.h5"), flow_of(tmp_path / "two.h5"))
