"""Arrays of flow: an item at a time, and hostile headers refused before anything is allocated."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flowkit.errors import InputError
from flowkit.flow_files.arrays import (
    FlowArray,
    OtherArraysError,
    npy_bytes,
    open_array,
    open_flow,
    open_frames,
    parse_npy,
    read_frame,
)
from tests.make import stores
from tests.make.deadline import ends_in_time

FLOW = (np.round(stores.noise(5, 0) * 8) / 8).astype(np.float32)  # exact in float16


def write(path: Path, flow: stores.Flow = FLOW, *, compressed: bool = True) -> Path:
    if path.suffix == ".npz":
        (np.savez_compressed if compressed else np.savez)(path, flow=flow, more=np.zeros(3))
    else:
        np.save(path, flow)
    return path


def header(shape: tuple[int, ...], *, dtype: str = "<f4", data: int = 64) -> bytes:
    stream = io.BytesIO()
    claim = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, claim)
    return stream.getvalue() + bytes(data)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [">f4", np.float16, np.float64])
def test_fields_come_in_any_order_from_either_kind(
    tmp_path: Path, suffix: str, last: bool, dtype: type[np.floating]
) -> None:
    stored = (np.moveaxis(FLOW, 1, -1) if last else FLOW).astype(dtype)
    array = open_flow(write(tmp_path / f"a{suffix}", stored))
    assert (array.whole, array.count, array.size) == (True, 5, (12, 20))
    for k in (3, 0, 4, 4, 1):
        field = array.field(k)
        assert field.dtype == np.float32
        assert field.flags.c_contiguous
        assert np.array_equal(field, FLOW[k])


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_of_one_field_has_one(tmp_path: Path, suffix: str) -> None:
    for flow in (FLOW[2], np.moveaxis(FLOW[2], 0, -1)):
        array = open_flow(write(tmp_path / f"a{suffix}", flow))
        assert (array.whole, array.count) == (False, 1)
        assert np.array_equal(array.field(), FLOW[2])


def test_fortrans_order_is_read_from_npy_and_refused_in_npz(tmp_path: Path) -> None:
    flow = np.asfortranarray(FLOW)
    assert np.array_equal(open_flow(write(tmp_path / "a.npy", flow)).field(3), FLOW[3])
    assert np.array_equal(parse_npy((tmp_path / "a.npy").read_bytes()).field(3), FLOW[3])
    with pytest.raises(InputError, match="Fortran"):
        open_flow(write(tmp_path / "a.npz", flow))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1e9, 1e300])
def test_what_is_no_number_or_beyond_middleburys_limit_is_unknown(tmp_path: Path, value: float) -> None:
    flow = FLOW.astype(np.float64)
    flow[1, 1, 3, 4] = value
    np.save(tmp_path / "a.npy", flow)
    field = open_flow(tmp_path / "a.npy").field(1)
    assert np.isnan(field[:, 3, 4]).all()
    assert np.isnan(field).sum() == 2


def test_the_only_array_of_an_npz_may_have_any_name_and_of_several_flow_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", raft=FLOW)
    assert open_flow(tmp_path / "one.npz").count == 5
    np.savez(tmp_path / "two.npz", raft=FLOW, other=FLOW)
    with pytest.raises(OtherArraysError, match="raft, other, expected one, or one called flow"):
        open_flow(tmp_path / "two.npz")


def test_a_file_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    assert open_flow(path).count == 5
    path.unlink()
    assert open_flow(write(path, FLOW[:2])).count == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "EOF|magic"),
        (b"no array at all", "magic"),
        (header((9, 2, 100, 100)), "bytes, expected 720128 for float32"),
        (header((1 << 40, 2, 1 << 40, 1 << 40)), "bytes, expected"),
        (header((0, 2, 8, 8)), "empty array"),
        (header((-1, 2, 8, 8)), "empty array"),
        (header((), data=4), "empty array"),
        (header((2, 2), dtype="|O"), "Python objects"),
        (b"\x93NUMPY\x03\x00" + bytes(64), "version"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "too large|header"),
        (b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192, "header|unpickling"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        ends_in_time(lambda: open_flow(tmp_path / "a.npy"))
    assert "a.npy" in str(caught.value)
    with pytest.raises(InputError, match=said):
        parse_npy(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("flow.npy", data)
    with pytest.raises(InputError, match=said):
        open_flow(tmp_path / "a.npz")


def test_a_sparse_file_of_more_than_is_read_is_refused(tmp_path: Path) -> None:
    for name, shape in (("wide", (1, 2, 30_000, 30_000)), ("long", (1 << 21, 2, 2, 4))):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(header(shape))
        os.truncate(path, 8 << 30)
        with pytest.raises(InputError, match="px are read"):
            open_flow(path)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pipes_are_not_waited_for_and_pickles_not_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(InputError, match="no regular file"):
        ends_in_time(lambda: open_array(path, "flow"))
    path.unlink()
    if name == "a.npz":
        np.savez(path, np.array([{}], object))
    else:
        np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="unpickling"):
        open_array(path, "flow")


@pytest.mark.parametrize("bad", ["cut", "flipped", "claims"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "a.npz")
    data = bytearray(path.read_bytes())
    if bad == "cut":
        data = data[:200]
    elif bad == "flipped":
        data[200:260] = bytes(60)
    else:  # the folder of the archive says that more is unpacked than is there
        at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02")) + 24
        data[at : at + 4] = (1 << 30).to_bytes(4, "little")
        with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
            archive.writestr("flow.npy", header((4, 2, 12, 20)))
        data = bytearray((tmp_path / "b.npz").read_bytes())
        at = data.rindex(b"PK\x01\x02") + 20
        data[at : at + 8] = (1 << 20).to_bytes(4, "little") * 2
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npz"):
        ends_in_time(lambda: open_flow(path).field(3))


def test_frames_are_colours_of_8_bits(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    array = open_frames(tmp_path / "frames.npy")
    assert array.shape == frames.shape
    assert np.array_equal(read_frame(array, 2), frames[2])
    for wrong in (frames[0], frames[..., 0], frames.astype(np.float32)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(InputError, match=r"uint8 of shape \(n, H, W, 3\)"):
            open_frames(tmp_path / "wrong.npy")


def test_a_field_comes_back_from_its_bytes() -> None:
    array = parse_npy(npy_bytes(FLOW[0]))
    assert isinstance(array, FlowArray)
    assert np.array_equal(array.field(), FLOW[0])
