"""All eight orientations, as matrices, as EXIF and as messages of a bitstream, with both decoders."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.errors import InvalidParameterError
from flowkit.typing import Decoder
from flowkit.video import reader as video
from flowkit.video.orientation import (
    EXIF_ORIENTATIONS,
    UPRIGHT,
    Orientation,
    of_image,
    of_matrix,
    right_angle,
)
from tests.make import clips
from tests.make.clips import UInt8

ALL = list(itertools.product((0, 90, 180, 270), (False, True)))
UP = clips.moving_texture(4, height=48, width=80)
# Without colour, which the codecs halve: the level that they leave of it is near.
GREY = np.repeat(UP[..., 1:2], 3, axis=3)
LOSSY = 6


@pytest.fixture(params=["av", "opencv"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    name: Decoder = request.param
    return name


def read(path: Path, decoder: Decoder) -> tuple[UInt8, int, bool]:
    with video.open_video(path, decoder=decoder) as reader:
        images = np.stack([frame.rgb for frame in reader])
    assert images.shape[1:3] == (reader.info.height, reader.info.width)
    return images, reader.info.rotation, reader.info.mirrored


@pytest.mark.parametrize(("rotation", "mirrored"), ALL)
def test_scaling_before_the_turn_is_scaling_after_it(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    """Area averages have no left and no right: the same to the level of their rounding."""
    upright = clips.oriented_video(tmp_path / "up.mkv", UP, 0, False, codec="ffv1", pixel_format="yuv444p")
    lying = clips.oriented_video(
        tmp_path / "lying.mkv", UP, rotation, mirrored, codec="ffv1", pixel_format="yuv444p"
    )
    for size in ((50, 30), (37, 23), (79, 47), (90, 40)):
        made = []
        for path in (upright, lying):
            with video.open_video(path) as reader:
                made.append(np.stack([frame.to_rgb(size) for frame in reader.lazy()]).astype(int))
        assert made[0].shape[1:3] == (size[1], size[0])
        assert np.abs(made[0] - made[1]).max() <= 1


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_turning_is_clockwise(quarter: int) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    turned = Orientation(rotation=90 * quarter)
    np.testing.assert_array_equal(turned.upright(image), np.rot90(image, -quarter))
    assert turned.sideways == bool(quarter % 2)


def test_mirror_comes_before_the_turn() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    made = Orientation(rotation=90, mirrored=True).upright(image)
    np.testing.assert_array_equal(made, np.rot90(image[:, ::-1], -1))
    assert UPRIGHT.upright(image) is image


def test_other_angles_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="rotation"):
        Orientation(rotation=45)


@pytest.mark.parametrize(
    ("degrees", "turned"),
    [(0, 0), (-90, 270), (90, 90), (180, 180), (-180, 180), (270, 270), (359.9, 0), (-89.6, 270)],
)
def test_angles_round_to_quarter_turns(degrees: float, turned: int) -> None:
    assert right_angle(degrees) == turned


@pytest.mark.parametrize(("rotation", "mirrored"), ALL)
@pytest.mark.parametrize("scale", [1.0, 65536.0])
def test_matrix_moves_points_as_its_orientation_moves_pixels(
    rotation: int, mirrored: bool, scale: float
) -> None:
    image = np.zeros((3, 5), np.uint8)
    image[0, 4] = 1  # 2 to the right of the middle and 1 above
    turned = Orientation(rotation=rotation, mirrored=mirrored).upright(image)
    (row,), (column,) = np.nonzero(turned)
    shown = np.array([column - turned.shape[1] // 2, row - turned.shape[0] // 2])
    fitting = []
    for a, b, c, d in itertools.product((-1, 0, 1), repeat=4):
        if abs(a * d - b * c) == 1 and of_matrix([scale * n for n in (a, b, 0, c, d, 0, 0, 0, 1)]) == (
            Orientation(rotation=rotation, mirrored=mirrored)
        ):
            fitting.append((2 * a - c, 2 * b - d))
    assert tuple(shown) in fitting


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=9, max_size=9))
def test_any_matrix_has_an_orientation(matrix: list[int]) -> None:
    assert of_matrix(matrix).rotation in (0, 90, 180, 270)


def test_matrix_without_an_inverse_says_nothing() -> None:
    assert of_matrix([0] * 9) == UPRIGHT


@pytest.mark.parametrize(("rotation", "mirrored"), ALL)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_quicktime_stands_upright(
    tmp_path: Path, decoder: Decoder, name: str, rotation: int, mirrored: bool
) -> None:
    images, *found = read(clips.oriented_video(tmp_path / name, GREY, rotation, mirrored), decoder)
    assert found == [rotation, mirrored]
    assert images.shape == UP.shape
    assert np.abs(images.astype(int) - GREY).mean() < LOSSY


@pytest.mark.parametrize(("rotation", "mirrored"), ALL)
def test_matroska_stands_upright_to_the_pixel(
    tmp_path: Path, decoder: Decoder, rotation: int, mirrored: bool
) -> None:
    path = clips.oriented_video(tmp_path / "a.mkv", UP, rotation, mirrored, codec="ffv1", pixel_format="bgr0")
    images, *found = read(path, decoder)
    assert found == [rotation, mirrored]
    np.testing.assert_array_equal(images, UP)


@pytest.mark.parametrize(
    ("how", "orientation"),
    [
        ("rotate=90", Orientation(rotation=270)),
        ("flip=horizontal", Orientation(mirrored=True)),
        ("flip=vertical", Orientation(mirrored=True, rotation=180)),
        ("rotate=90:flip=horizontal", Orientation(mirrored=True, rotation=270)),
    ],
)
@pytest.mark.parametrize("name", ["a.ts", "a.mp4"])
def test_message_in_h264_turns_as_the_container_does(
    tmp_path: Path, decoder: Decoder, name: str, how: str, orientation: Orientation
) -> None:
    lying = clips.lying(GREY, orientation.rotation, orientation.mirrored)
    images, *found = read(clips.h264_with_message(tmp_path / name, lying, how), decoder)
    assert found == [orientation.rotation, orientation.mirrored]
    assert images.shape == UP.shape
    assert np.abs(images.astype(int) - GREY).mean() < LOSSY


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_exif_in_a_motion_jpeg_turns_it(tmp_path: Path, decoder: Decoder, name: str, number: int) -> None:
    orientation = EXIF_ORIENTATIONS[number - 1]
    lying = clips.lying(GREY, orientation.rotation, orientation.mirrored)
    images, *found = read(clips.mjpeg_with_exif(tmp_path / name, lying, number), decoder)
    assert found == [orientation.rotation, orientation.mirrored]
    assert np.abs(images.astype(int) - GREY).mean() < LOSSY


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbered_jpegs_stand_upright_by_their_exif(tmp_path: Path, number: int, order: str) -> None:
    orientation = EXIF_ORIENTATIONS[number - 1]
    for k, rgb in enumerate(clips.lying(GREY, orientation.rotation, orientation.mirrored)):
        made, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        assert made
        (tmp_path / f"img_{k}.jpg").write_bytes(clips.with_exif(data.tobytes(), number, order=order))
    images, *found = read(tmp_path, "av")
    assert found == [orientation.rotation, orientation.mirrored]
    assert np.abs(images.astype(int) - GREY).mean() < LOSSY


@pytest.mark.parametrize("number", range(1, 9))
def test_numbered_pngs_stand_upright_to_the_pixel(tmp_path: Path, number: int) -> None:
    orientation = EXIF_ORIENTATIONS[number - 1]
    for k, rgb in enumerate(clips.lying(UP, orientation.rotation, orientation.mirrored)):
        made, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        assert made
        body = b"eXIf" + clips.exif(number)
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        (tmp_path / f"img_{k}.png").write_bytes(data.tobytes()[:33] + chunk + data.tobytes()[33:])
    images, *found = read(tmp_path, "av")
    assert found == [orientation.rotation, orientation.mirrored]
    np.testing.assert_array_equal(images, UP)


def test_exif_of_webp_is_its_chunk() -> None:
    data = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 3) + b"odd\0EXIF"
    data += struct.pack("<I", len(clips.exif(6))) + clips.exif(6)
    assert of_image(data) == Orientation(rotation=90)


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_exif_numbers_without_a_meaning_say_nothing(number: int) -> None:
    assert of_image(clips.with_exif(b"\xff\xd8\xff\xd9", number)) == UPRIGHT


@given(st.binary(max_size=60), st.integers(0, 60))
def test_exif_that_is_damaged_says_nothing_or_something(noise: bytes, at: int) -> None:
    sound = clips.with_exif(b"\xff\xd8\xff\xd9", 6)
    for data in (sound[:at], sound[:at] + noise, b"\xff\xd8" + noise, b"\x89PNG\r\n\x1a\n" + noise):
        assert of_image(data) in EXIF_ORIENTATIONS
