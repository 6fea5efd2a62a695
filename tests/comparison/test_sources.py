from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from flowkit import jpeg
from flowkit.comparison.sources import FileSource, FolderSource, StoreSource, first_frame, open_source
from flowkit.errors import InputError, InvalidParameterError, StoreNotFoundError
from flowkit.flow_files.flo import write_flo
from flowkit.quantize import quantize_u8
from tests.make import stores
from tests.make.deadline import ends_in_time


def write_planes(folder: Path, flow: stores.Flow, names: tuple[str, str], *, first: int = 1) -> None:
    folder.mkdir(parents=True)
    codes, _ = quantize_u8(flow, bound_px=20.0)
    for k, planes in enumerate(codes):
        for name, plane in zip(names, planes, strict=True):
            (folder / name.format(first + k)).write_bytes(jpeg.encode_grey(plane, 100))


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"), 1),  # TSN
        (("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"), 0),  # denseflow
        (("x_{:05d}.jpg", "y_{:05d}.jpg"), 1),  # mmaction2's loader
        (("U_{:d}.JPEG", "V_{:d}.JPEG"), 8),
    ],
)
def test_pairs_of_jpegs_are_fields(tmp_path: Path, names: tuple[str, str], first: int) -> None:
    flow = stores.steady(4, 3.0, -7.0) + np.arange(4, dtype=np.float32)[:, None, None, None]
    write_planes(tmp_path / "jump" / "clip", flow, names, first=first)
    (tmp_path / "jump" / "clip" / "img_00001.jpg").write_bytes(b"a frame, which is no flow")
    source = FolderSource(tmp_path)
    assert list(source.ids()) == ["jump/clip"]
    assert source.count("jump/clip") == 4
    for k in range(4):
        # one step of TSN's codes is 40/255 px; flat JPEGs are exact
        assert source.flow("jump/clip", k) == pytest.approx(flow[k], abs=20 / 255 + 1e-5)


def test_bound_scales_the_bytes(tmp_path: Path) -> None:
    write_planes(tmp_path / "a", stores.steady(1, 10, -10), ("x_{}.jpg", "y_{}.jpg"))
    near, far = FolderSource(tmp_path), FolderSource(tmp_path, bound_px=32.0)
    assert far.flow("a", 0) == pytest.approx(near.flow("a", 0) * 1.6, abs=1e-5)
    with pytest.raises(InvalidParameterError, match="bound_px"):
        FolderSource(tmp_path, bound_px=0)


def test_folders_of_flo_files_are_videos(tmp_path: Path) -> None:
    flows = stores.noise(12, 0)
    folder = tmp_path / "drift" / "g01.flow"
    folder.mkdir(parents=True)
    for k, flow in enumerate(flows):
        write_flo(folder / f"{k}.flo", flow)  # 10 comes behind 9, whatever the alphabet says
    source = open_source(tmp_path)
    assert list(source.ids()) == ["drift/g01"]
    assert all(np.array_equal(source.flow("drift/g01", k), flows[k]) for k in range(12))


def test_folder_that_holds_the_files_itself_is_one_video(tmp_path: Path) -> None:
    write_flo(tmp_path / "flow10.flo", stores.steady(1, 1, 1)[0])
    assert list(FolderSource(tmp_path).ids()) == [tmp_path.name]


def test_one_file_is_one_video(tmp_path: Path) -> None:
    write_flo(tmp_path / "truth.flo", stores.steady(1, 1, 2)[0])
    source = open_source(tmp_path / "truth.flo")
    assert isinstance(source, FileSource)
    assert (list(source.ids()), source.count("truth")) == (["truth"], 1)
    assert source.flow("truth", 0)[:, 0, 0].tolist() == [1, 2]


def test_store_gives_the_field_asked_for(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a/b": stores.steady(3, 1, 2)})
    source = open_source(path)
    assert isinstance(source, StoreSource)
    assert (list(source.ids()), source.count("a/b")) == (["a/b"], 3)
    assert source.flow("a/b", 2)[:, 0, 0].tolist() == [1, 2]
    with pytest.raises(InputError, match="flow_backward"):
        open_source(path, field="flow_backward")


def test_numbers_left_out_and_halves_are_said(tmp_path: Path) -> None:
    write_planes(tmp_path / "a", stores.steady(4, 1, 1), ("x_{}.jpg", "y_{}.jpg"))
    (tmp_path / "a" / "y_3.jpg").unlink()
    with pytest.raises(InputError, match="number 3 is missing or half there"):
        FolderSource(tmp_path)
    (tmp_path / "a" / "x_3.jpg").unlink()
    with pytest.raises(InputError, match="number 3 is missing"):
        FolderSource(tmp_path)


def test_two_files_of_one_number_are_said(tmp_path: Path) -> None:
    for name in ("1.flo", "01.flo"):
        write_flo(tmp_path / name, stores.steady(1, 1, 1)[0])
    with pytest.raises(InputError, match="are one field"):
        FolderSource(tmp_path)


def test_damaged_jpegs_and_two_sizes_are_said(tmp_path: Path) -> None:
    write_planes(tmp_path / "a", stores.steady(2, 1, 1), ("x_{}.jpg", "y_{}.jpg"))
    (tmp_path / "a" / "x_1.jpg").write_bytes(b"no JPEG")
    (tmp_path / "a" / "x_2.jpg").write_bytes(jpeg.encode_grey(np.zeros((4, 4), np.uint8)))
    source = FolderSource(tmp_path)
    with pytest.raises(InputError, match=r"x_1\.jpg"):
        source.flow("a", 0)
    with pytest.raises(InputError, match="differ in size"):
        source.flow("a", 1)


def test_nothing_with_flow_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no flow in it"):
        open_source(tmp_path)
    with pytest.raises(StoreNotFoundError):
        open_source(tmp_path / "gone.h5")


def test_frames_are_those_that_a_field_leads_from(tmp_path: Path) -> None:
    path = stores.write_store(tmp_path / "s.h5", {"a": stores.steady(3, 1, 2)})
    source = StoreSource(path)
    frame = source.frame("a", 2)
    assert frame is not None
    assert abs(float(frame.mean()) - 12) < 1  # frame 2 is grey 12; JPEG
    bare = StoreSource(stores.write_store(tmp_path / "b.h5", {"a": stores.steady(3, 1, 2)}, frames=False))
    assert bare.frame("a", 2) is None
    assert [first_frame(field, 5, 2) for field in ("flow", "flow_backward")] == [5, 7]


def test_a_pipe_among_the_planes_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    write_planes(tmp_path / "a", stores.noise(2, 0), ("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"))
    (tmp_path / "a" / "flow_y_00002.jpg").unlink()
    os.mkfifo(tmp_path / "a" / "flow_y_00002.jpg")
    source = FolderSource(tmp_path / "a")
    with pytest.raises(InputError, match="no regular file"):
        ends_in_time(lambda: source.flow("a", 1))
