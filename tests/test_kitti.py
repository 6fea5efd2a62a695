from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowkit.errors import InputError
from flowkit.kitti import is_kitti_file, read_kitti
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
