from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.errors import InputError, InvalidParameterError
from flowkit.flow_files.kitti import is_kitti_file, kitti_bytes, parse_kitti, read_kitti
from flowkit.typing import Flow
from tests.make.deadline import ends_in_time


def write_kitti(path: Path, flow: Flow) -> Path:
    """Write flow, float32 (2, H, W), as KITTI does: u, v and validity as red, green and blue."""
    known = np.isfinite(flow).all(axis=0)
    codes = np.where(known, np.rint(flow * 64 + 2**15), 0).astype(np.uint16)
    assert cv2.imwrite(str(path), np.dstack([known.astype(np.uint16), codes[1], codes[0]]))
    return path


def test_flow_is_a_64th_of_a_pixel_and_unknown_pixels_are_nan(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(-20_000, 20_000, (2, 5, 7))
    flow = codes.astype(np.float32) / np.float32(64)
    flow[:, 2, 3] = np.nan
    read = read_kitti(write_kitti(tmp_path / "000000_10.png", flow))
    assert read.dtype == np.float32
    assert np.array_equal(read, flow, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey8.png", np.zeros((4, 4), np.uint8)),
        ("rgb8.png", np.zeros((4, 4, 3), np.uint8)),
        ("grey16.png", np.zeros((4, 4), np.uint16)),
        ("frame.jpg", np.zeros((4, 4, 3), np.uint8)),
    ],
)
def test_other_images_are_no_flow(
    tmp_path: Path, name: str, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    assert cv2.imwrite(str(tmp_path / name), image)
    assert not is_kitti_file(tmp_path / name)
    with pytest.raises(InputError, match="three channels of 16 bits"):
        read_kitti(tmp_path / name)


@pytest.mark.parametrize("bad", ["cut", "pipe", "empty"])
def test_what_is_no_sound_png_is_an_error(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "000000_10.png"
    if bad == "pipe":
        os.mkfifo(path)
    elif bad == "empty":
        path.touch()
    else:
        data = write_kitti(path, np.ones((2, 40, 40), np.float32)).read_bytes()
        path.write_bytes(data[:40])
    with pytest.raises(InputError, match="000000_10"):
        ends_in_time(lambda: read_kitti(path))
    assert is_kitti_file(path) == (bad == "cut")


def test_what_is_written_is_read_back_and_unknown_pixels_stay_so() -> None:
    codes = np.random.default_rng(1).integers(-(2**15), 2**15, (2, 5, 7))
    flow = codes.astype(np.float32) / np.float32(64)
    flow[0, 1, 1] = np.nan  # either component unknown makes the pixel unknown
    again = parse_kitti(kitti_bytes(flow))
    flow[:, 1, 1] = np.nan
    assert np.array_equal(again, flow, equal_nan=True)


def test_the_bytes_are_those_of_an_independent_writer(tmp_path: Path) -> None:
    flow = np.random.default_rng(2).normal(0, 9, (2, 6, 4)).astype(np.float32)
    flow[:, 3, 3] = np.nan
    path = write_kitti(tmp_path / "a.png", flow)
    (tmp_path / "ours.png").write_bytes(kitti_bytes(flow))
    ours, theirs = (
        cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED) for name in ("ours.png", path.name)
    )
    assert ours is not None
    assert theirs is not None
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("value", [512.0, -512.1, np.inf])
def test_flow_beyond_16_bits_is_refused(value: float) -> None:
    flow = np.zeros((2, 3, 3), np.float32)
    flow[1, 0, 0] = value
    with pytest.raises(InvalidParameterError, match=r"within -512 and 511\.984 px"):
        kitti_bytes(flow)
