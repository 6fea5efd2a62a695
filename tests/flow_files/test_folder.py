"""Flow files by their names: steps and directions of denseflow, arrays, KITTI's scenes."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.comparison.sources import FolderSource, StoreSource, open_source
from flowkit.comparison.stores import CompareConfig, compare
from flowkit.errors import InputError
from flowkit.quantize import quantize_u8
from flowkit.store.schema import FieldOptions
from flowkit.typing import Flow
from tests.flow_files.test_kitti import write_kitti
from tests.make import stores
from tests.make.deadline import ends_in_time
from tests.rawframes.conftest import MakeStore as MakeStore
from tests.rawframes.conftest import make_store, run_export

__all__ = ["make_store"]

BOTH = tuple(
    FieldOptions(name=name, tvl1_preset="fast", tvl1_params="{}") for name in ("flow", "flow_backward")
)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("field", ["flow", "flow_backward"])
def test_denseflows_folders_of_any_step_and_direction_equal_their_store(
    make_store: MakeStore, tmp_path: Path, step: int, field: str
) -> None:
    store = make_store({"walk/a": 7, "b": 5}, flow_codec="jpeg", step=step, fields=BOTH)
    run_export(store, tmp_path / "out", "denseflow", field=field)
    found = compare(CompareConfig(a=store, b=tmp_path / "out", field=field))
    assert not found.failings(max_epe_px=0)
    assert found.overall.n_fields == 12 - 2 * step


@pytest.fixture
def mixed(make_store: MakeStore, tmp_path: Path) -> Path:
    """A folder of a clip with flow of steps 1 and 3, and backward."""
    folder = tmp_path / "mixed" / "a"
    folder.mkdir(parents=True)
    for step, field in ((1, "flow"), (1, "flow_backward"), (3, "flow")):
        name = f"{step}{field}"
        store = make_store({"a": 7}, name=f"{name}.h5", flow_codec="jpeg", step=step, fields=BOTH)
        run_export(store, tmp_path / name, "denseflow", field=field, content="flow")
        for file in (tmp_path / name / "a").iterdir():
            file.rename(folder / file.name)
    return tmp_path / "mixed"


def test_of_several_steps_one_is_chosen(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"steps, 1, 3; choose one with --step"):
        FolderSource(mixed)
    for step in (1, 3):
        config = CompareConfig(a=tmp_path / f"{step}flow.h5", b=mixed, step=step)
        assert not compare(config).failings(max_epe_px=0)
    config = CompareConfig(a=tmp_path / "1flow_backward.h5", b=mixed, field="flow_backward")
    assert not compare(config).failings(max_epe_px=0)


def test_backward_flow_alone_is_said_to_be_that(make_store: MakeStore, tmp_path: Path) -> None:
    run_export(make_store({"a": 4}, fields=BOTH), tmp_path / "out", "denseflow", field="flow_backward")
    with pytest.raises(InputError, match="--field flow_backward"):
        FolderSource(tmp_path / "out")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_planes_may_be_images_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    flow = stores.noise(3, 0)
    codes, _ = quantize_u8(flow, bound_px=20.0)
    for k, planes in enumerate(codes):
        for axis, plane in zip("xy", planes, strict=True):
            assert cv2.imwrite(str(tmp_path / f"flow_{axis}_{k:05d}{suffix}"), plane)
    source = FolderSource(tmp_path)
    (video_id,) = source.ids()
    # Half a code of 40/255 px: these images lose nothing else.
    assert np.abs(source.flow(video_id, 2) - flow[2]).max() <= 20 / 255 + 1e-5


@pytest.mark.parametrize("layout", ["npy", "flo"])
def test_an_exported_store_equals_its_files(make_store: MakeStore, tmp_path: Path, layout: str) -> None:
    store = make_store({"walk/a": 5, "b": 3})
    run_export(store, tmp_path / "out", layout)
    found = compare(CompareConfig(a=store, b=tmp_path / "out"))
    assert not found.failings(max_epe_px=0)
    assert found.overall.n_fields == 6


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_have_u_and_v_first_or_last(tmp_path: Path, last: bool, dtype: type[np.floating]) -> None:
    flows = np.round(stores.noise(3, 0) * 8) / np.float32(8)  # exact in float16

    def written(flow: Flow, path: Path) -> Path:
        path.parent.mkdir(exist_ok=True)
        np.save(path, (np.moveaxis(flow, -3, -1) if last else flow).astype(dtype))
        return path

    whole = open_source(written(flows, tmp_path / "whole" / "v_01_raft.npy"))
    assert (list(whole.ids()), whole.count("v_01_raft")) == (["v_01_raft"], 3)
    folder = open_source(tmp_path / "whole")
    assert list(folder.ids()) == ["v_01_raft"]
    for k, flow in enumerate(flows):
        written(flow, tmp_path / "single" / f"flow_{k:03d}.npy")
    single = open_source(tmp_path / "single")
    for k in range(3):
        for source in (whole, folder, single):
            (video_id,) = source.ids()
            read = source.flow(video_id, k)
            assert read.dtype == np.float32
            assert np.array_equal(read, flows[k])


def test_arrays_that_are_no_flow_are_passed_over_or_said(tmp_path: Path) -> None:
    np.save(tmp_path / "flow.npy", stores.steady(2, 1, 2))
    np.save(tmp_path / "frames.npy", np.zeros((2, 12, 20, 3), np.uint8))
    np.save(tmp_path / "labels_1.npy", np.zeros(4, np.float32))
    assert list(FolderSource(tmp_path).ids()) == [tmp_path.name]
    source = open_source(tmp_path / "labels_1.npy")
    with pytest.raises(InputError, match=r"float32 of shape \(4,\)"):
        source.count("labels_1")
    np.save(tmp_path / "pickled_1.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled_1"):
        FolderSource(tmp_path)


def test_archives_of_arrays_are_clips_and_those_of_other_arrays_are_passed_over(tmp_path: Path) -> None:
    flows = stores.noise(3, 0)
    np.savez_compressed(tmp_path / "v_1.npz", flow=flows, valid=np.ones(3))
    np.savez(tmp_path / "scores.npz", a=np.zeros(3), b=np.zeros(3))
    source = open_source(tmp_path)
    assert list(source.ids()) == ["v_1"]
    assert np.array_equal(source.flow("v_1", 2), flows[2])
    assert np.array_equal(open_source(tmp_path / "v_1.npz").flow("v_1", 1), flows[1])
    np.save(tmp_path / "v_1.npy", flows)
    with pytest.raises(InputError, match="both flow of v_1"):
        open_source(tmp_path)


def test_a_pipe_called_npy_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flow.npy")
    with pytest.raises(InputError, match="no regular file"):
        ends_in_time(lambda: FolderSource(tmp_path))


def test_kittis_scenes_are_fields_and_unknown_pixels_are_left_out(tmp_path: Path) -> None:
    truth = np.round(stores.noise(3, 0) * 64) / np.float32(64)
    truth[:, :, :4] = np.nan
    for name, flows in (
        ("flow_occ", truth),
        ("mine", np.nan_to_num(truth) + np.array([3, 4], np.float32)[:, None, None]),
    ):
        (tmp_path / name).mkdir()
        for k, flow in enumerate(flows):
            write_kitti(tmp_path / name / f"{k:06d}_10.png", flow)
    found = compare(CompareConfig(a=tmp_path / "flow_occ", b=tmp_path / "mine"))
    (video,) = found.videos
    assert video.difference is not None
    assert video.difference.n_fields == 3
    assert video.difference.epe_mean_px == pytest.approx(5)
    assert (found.overall.n_unknown, found.overall.n_pixels) == (3 * 4 * 20, 3 * 8 * 20)
    one = open_source(tmp_path / "flow_occ" / "000001_10.png")
    assert np.array_equal(one.flow("000001_10", 0), truth[1], equal_nan=True)


def test_frames_of_png_beside_flow_are_no_flow(tmp_path: Path) -> None:
    write_kitti(tmp_path / "000000_10.png", stores.steady(1, 1, 2)[0])
    for name in ("image_00000.png", "depth_00000.png"):
        bits = np.uint8 if name.startswith("image") else np.uint16
        assert cv2.imwrite(str(tmp_path / name), np.zeros((12, 20), bits))
    (tmp_path / "._000001_10.png").write_bytes(b"x")
    source = FolderSource(tmp_path)
    assert [source.count(video_id) for video_id in source.ids()] == [1]


def test_an_array_beside_numbered_files_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "flow.npy", stores.steady(2, 1, 2))
    np.save(tmp_path / "flow_0.npy", stores.steady(1, 1, 2)[0])
    with pytest.raises(InputError, match="numbered files and an array"):
        FolderSource(tmp_path)


def test_what_desktops_and_servers_leave_is_no_video(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "__MACOSX" / "a", tmp_path / "@eaDir" / "a"):
        folder.mkdir(parents=True)
        np.save(folder / "flow.npy", stores.steady(2, 1, 2))
    assert list(FolderSource(tmp_path).ids()) == ["a"]


def test_a_store_has_no_choice_of_step(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(3, 1, 2)})
    assert isinstance(open_source(path, step=2), StoreSource)
