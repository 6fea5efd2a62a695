from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit.errors import InputError, InvalidParameterError
from flowkit.flow_files.flo import flo_bytes, parse_flo, read_flo, write_flo
from tests.make.deadline import ends_in_time

FLOWS = arrays(
    np.float32,
    st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1e9, 1e9, width=32),
)


@given(FLOWS)
def test_flow_comes_back_bit_for_bit(flow: NDArray[np.float32]) -> None:
    assert parse_flo(flo_bytes(flow)).tobytes() == flow.tobytes()


def test_opencv_reads_what_is_written(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(0, 3, (2, 5, 7)).astype(np.float32)
    write_flo(tmp_path / "a.flo", flow)
    assert np.array_equal(cv2.readOpticalFlow(str(tmp_path / "a.flo")).transpose(2, 0, 1), flow)


def test_what_opencv_writes_is_read(tmp_path: Path) -> None:
    flow = np.random.default_rng(1).normal(0, 3, (2, 4, 9)).astype(np.float32)
    cv2.writeOpticalFlow(str(tmp_path / "a.flo"), np.ascontiguousarray(flow.transpose(1, 2, 0)))
    assert np.array_equal(read_flo(tmp_path / "a.flo"), flow)


def test_unknown_pixels_are_nan_and_stay_unknown() -> None:
    flow = np.ones((2, 2, 3), np.float32)
    flow[0, 0, 1] = np.nan
    data = flo_bytes(flow)
    u, _ = struct.unpack_from("<2f", data, 12 + 8)
    assert u > 1e9
    again = parse_flo(data)
    assert np.isnan(again[:, 0, 1]).all()
    assert np.isnan(again).sum() == 2


def test_one_unknown_component_makes_the_pixel_unknown() -> None:
    data = b"PIEH" + struct.pack("<ii4f", 2, 1, 1.0, 1666666752.0, 3.0, 4.0)
    flow = parse_flo(data)
    assert np.isnan(flow[:, 0, 0]).all()
    assert flow[:, 0, 1].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the tag PIEH"),
        (b"PNG\r" + bytes(20), "the tag PIEH"),
        (b"PIEH" + struct.pack("<ii", 0, 3), "0 x 3"),
        (b"PIEH" + struct.pack("<ii", 1 << 30, 1 << 30), "a side"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(31), "43 bytes, expected 44"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(33), "45 bytes, expected 44"),
    ],
)
def test_what_is_no_flo_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_flo(data)


@pytest.mark.parametrize(
    "flow",
    [
        np.zeros((2, 3, 3), np.float64),
        np.zeros((3, 3, 2), np.float32),
        np.zeros((2, 0, 3), np.float32),
        np.full((2, 1, 1), np.inf, np.float32),
        np.full((2, 1, 1), 2e9, np.float32),
    ],
)
def test_what_no_flo_can_hold_is_refused(flow: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidParameterError):
        flo_bytes(flow)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.flo").mkdir()
    with pytest.raises(OSError, match=r"a\.flo"):
        write_flo(tmp_path / "a.flo", np.zeros((2, 1, 1), np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.flo"]


@pytest.mark.data
def test_middlebury_truth_has_unknown_pixels_and_sane_values(shared_data: Path) -> None:
    flow = read_flo(shared_data / "flow_gt" / "RubberWhale" / "flow10.flo")
    assert flow.shape == (2, 388, 584)
    assert 0 < np.isnan(flow[0]).mean() < 0.05
    assert np.nanmax(np.abs(flow)) < 5  # px: the sequence moves by less than 5


def test_a_pipe_is_no_flow_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.flo")
    with pytest.raises(InputError, match=r"a\.flo: no regular file"):
        ends_in_time(lambda: read_flo(tmp_path / "a.flo"))


def test_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(b"PIEH" + struct.pack("<ii", 90_000, 90_000))
    os.truncate(path, 12 + 8 * 90_000**2)
    with pytest.raises(InputError, match="90000 x 90000 px"):
        ends_in_time(lambda: read_flo(path))
