"""One folder of raw frames in a worker: its bytes, its record, its errors."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import flowkit
from flowkit.executor import InlineExecutor
from flowkit.extraction.plan import fingerprint
from flowkit.extraction.sources import VideoSource
from flowkit.extraction.store_run import VideoOutcome
from flowkit.quantize import dequantize_u8, quantize_u8
from flowkit.rawframes.frame_files import FolderError
from flowkit.rawframes.import_worker import ImportTask, import_clip
from flowkit.rawframes.inspection import Pairing
from flowkit.rawframes.layouts import LAYOUTS
from flowkit.store.parts_folder import PartsFolder
from flowkit.store.schema import StoreOptions
from flowkit.store.write.pack import finalize
from tests.rawframes.conftest import (
    HEIGHT,
    WIDTH,
    make_flow,
    make_options,
    names_in,
    opencv_folder,
    run_import,
)


def import_one(
    folder: Path,
    store: Path,
    options: StoreOptions | None = None,
    *,
    fps: float = 25.0,
    pairing: Pairing = "first",
) -> VideoOutcome:
    """Import a folder in this process, with id `walk/a`."""
    PartsFolder(store).path.mkdir(exist_ok=True)
    task = ImportTask(
        source=VideoSource(path=folder, video_id="walk/a", label="walk"),
        store=store,
        options=options or make_options(flow_codec="jpeg", bound_px=20.0),
        layouts=(LAYOUTS["tsn"],),
        fps=fps,
        pairing=pairing,
    )
    with InlineExecutor() as executor:
        (outcome,) = executor.run(import_clip, [task])
    assert outcome.result is not None
    return outcome.result


def read_grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_folders_written_by_opencv_are_stored_byte_for_byte(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in" / "walk" / "a", 4)
    run_import(tmp_path / "in", tmp_path / "out.h5")
    with flowkit.open(tmp_path / "out.h5") as store:
        video = store.stored_video("walk/a")
        for k in range(4):
            assert video.frames[k] == (folder / f"img_{k + 1:05d}.jpg").read_bytes()
        for k in range(3):
            assert video.field("flow").chunks(k) == tuple(
                (folder / f"flow_{axis}_{k + 1:05d}.jpg").read_bytes() for axis in "xy"
            )
        planes = [read_grey(folder / f"flow_{axis}_00001.jpg") for axis in "xy"]
        expected = dequantize_u8(np.stack(planes), bound_px=20)
        assert np.array_equal(store["walk/a"].flow(0, 1)[0], expected)


def test_what_the_files_do_not_tell_is_marked_as_imported(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "walk" / "a", 4)
    run_import(tmp_path / "in", tmp_path / "out.h5", fps=10.0, bound_px=32.0)
    with flowkit.open(tmp_path / "out.h5") as store:
        record, options = store["walk/a"].record, store.options
        assert store["walk/a"].pts.tolist() == [0.0, 0.1, 0.2, 3 / 10]
    assert (record.backend, options.fields[0].tvl1_preset) == ("imported", "imported")
    assert (options.bound_px, options.flow_codec, record.fps) == (32.0, "jpeg", 10.0)
    assert (record.width, record.height, record.label) == (WIDTH, HEIGHT, "walk")
    assert "not known" in record.deviations
    assert record.source_bytes == sum(path.stat().st_size for path in (tmp_path / "in/walk/a").iterdir())


def test_tsns_own_folders_keep_frames_and_the_flow_between_them(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "a", 4, n_flow=4)
    report = run_import(tmp_path / "in", tmp_path / "out.h5", pairing="second")
    assert "flow_x_00001.jpg" in report.outcomes[0].warnings[0]
    with flowkit.open(tmp_path / "out.h5") as store:
        clip = store["a"]
        assert (clip.n_frames, clip.n_flow) == (4, 3)
        expected = dequantize_u8(quantize_u8(make_flow(0, 4)[1], bound_px=20)[0], bound_px=20)
        # A few codes of JPEG loss; field 0 and field 1 differ by far more.
        assert float(np.abs(clip.flow(0, 1)[0] - expected).mean()) < 0.3
        assert "flow_x_00001.jpg" in clip.record.status_reason


def test_flow_alone_is_imported_where_frames_are_left_out(tmp_path: Path) -> None:
    opencv_folder(tmp_path / "in" / "a", 4, n_flow=4)
    run_import(tmp_path / "in", tmp_path / "out.h5", frame_codec="none")
    with flowkit.open(tmp_path / "out.h5") as store:
        assert (store["a"].n_frames, store["a"].n_flow) == (5, 4)
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_saturated_codes_are_reported_as_clipped(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in" / "a", 2)
    for axis, value in (("x", 255), ("y", 0)):
        plane = np.full((HEIGHT, WIDTH), value, np.uint8)
        assert cv2.imwrite(str(folder / f"flow_{axis}_00001.jpg"), plane)
    run_import(tmp_path / "in", tmp_path / "out.h5")
    with flowkit.open(tmp_path / "out.h5") as store:
        record = store["a"].record
        assert store["a"].clipped() is None  # another tool may have clipped less
    assert (record.clipped_fraction, record.flow_max_px) == (1.0, 20.0)
    with h5py.File(tmp_path / "out.h5") as file:
        assert "flow_clipped" not in file["videos/a"]
    assert flowkit.verify(tmp_path / "out.h5").sound


def test_a_folder_becomes_one_part(tmp_path: Path) -> None:
    folder, store = opencv_folder(tmp_path / "in", 4), tmp_path / "out.h5"
    outcome = import_one(folder, store)
    assert (outcome.video_id, outcome.source, outcome.label) == ("walk/a", str(folder), "walk")
    assert (outcome.status, outcome.n_frames, outcome.n_flow, outcome.warnings) == ("stored", 4, 3, ())
    assert names_in(PartsFolder(store).path) == ["walk%2Fa.h5"]


def test_the_record_has_the_folders_state_and_its_largest_flow(tmp_path: Path) -> None:
    folder, store = opencv_folder(tmp_path / "in", 4), tmp_path / "out.h5"
    options = make_options(flow_codec="jpeg", bound_px=20.0)
    import_one(folder, store, options, fps=12.5)
    finalize(store, options=options)
    codes = np.stack([read_grey(path) for path in sorted(folder.glob("flow_*.jpg"))])
    with flowkit.open(store) as opened:
        record = opened["walk/a"].record
        assert opened["walk/a"].pts.tolist() == [k / 12.5 for k in range(4)]
    assert record.fingerprint == fingerprint(folder)
    assert (record.fps, record.width, record.height) == (12.5, WIDTH, HEIGHT)
    # Stored as float32 or better: 20 px keep 2 ** -19 px.
    assert record.flow_max_px == pytest.approx(np.abs(dequantize_u8(codes, bound_px=20.0)).max(), abs=1e-5)
    assert record.clipped_fraction == np.count_nonzero((codes == 0) | (codes == 255)) / codes.size


def test_a_step_leaves_as_many_frames_without_flow(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in", 5, n_flow=3)
    outcome = import_one(folder, tmp_path / "out.h5", make_options(flow_codec="jpeg", step=2))
    assert (outcome.n_frames, outcome.n_flow) == (5, 3)


def damage(folder: Path, kind: str) -> Path:
    """Spoil one file of a folder and return it."""
    name = "img_00003.jpg" if kind.startswith("frame") else "flow_y_00002.jpg"
    path = folder / name
    if kind.endswith("size"):
        assert cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH - 8, 3), np.uint8))
    elif kind.endswith("cut"):
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_bytes(b"junk")
    return path


@pytest.mark.parametrize("kind", ["frame_size", "flow_size"])
def test_an_image_of_another_size_is_refused_with_both(tmp_path: Path, kind: str) -> None:
    folder = opencv_folder(tmp_path / "in", 4)
    path = damage(folder, kind)
    with pytest.raises(FolderError) as caught:
        import_one(folder, tmp_path / "out.h5")
    assert str(caught.value) == (
        f"{path} is 16x16, the first flow field 24x16; frames and flow of a clip must have one size"
    )
    assert caught.value.reason == "size_mismatch"
    assert names_in(PartsFolder(tmp_path / "out.h5").path) == []


@pytest.mark.parametrize("kind", ["frame_cut", "flow_cut", "frame_junk", "flow_junk"])
def test_a_broken_image_is_named_and_leaves_no_part(tmp_path: Path, kind: str) -> None:
    folder = opencv_folder(tmp_path / "in", 4)
    path = damage(folder, kind)
    with pytest.raises(FolderError, match=f"{path.name} is no sound JPEG: ") as caught:
        import_one(folder, tmp_path / "out.h5")
    assert caught.value.reason == "decode_error"
    assert names_in(PartsFolder(tmp_path / "out.h5").path) == []


def test_frames_that_are_left_out_may_be_broken(tmp_path: Path) -> None:
    folder = opencv_folder(tmp_path / "in", 4)
    damage(folder, "frame_junk")
    options = make_options(flow_codec="jpeg", frame_codec="none")
    assert import_one(folder, tmp_path / "out.h5", options).n_frames == 4


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        import_one(tmp_path / "gone", tmp_path / "out.h5")
