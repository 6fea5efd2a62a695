from __future__ import annotations

import functools
import importlib.util
import os
import struct
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit import jpeg
from flowkit.errors import InvalidParameterError, JpegError
from tests.make.clips import moving_texture
from tests.make.deadline import ends_in_time

IMAGE = moving_texture(1, height=61, width=83)[0]  # odd sides, so that chroma is padded


@pytest.fixture(params=["simplejpeg", "opencv"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "opencv":
        monkeypatch.setattr(jpeg, "simplejpeg", None)
    elif importlib.util.find_spec("simplejpeg") is None:
        pytest.skip("simplejpeg is not installed")
    return str(request.param)


def test_library_says_which_and_its_version(library: str) -> None:
    name, version = jpeg.library().split()
    assert name == library
    assert version[0].isdigit()


def test_colour_comes_back_close(library: str) -> None:
    decoded = jpeg.decode(jpeg.encode(IMAGE, 95))
    assert decoded.shape == IMAGE.shape
    assert decoded.dtype == np.uint8
    # Mean over all levels: this texture's colours change fast, and chroma is halved.
    assert np.abs(decoded.astype(int) - IMAGE).mean() < 5
    luma = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int) for rgb in (decoded, IMAGE)]
    assert np.abs(luma[0] - luma[1]).mean() < 1.5


def test_red_stays_red(library: str) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(jpeg.decode(jpeg.encode(red)).astype(int) - red).max() <= 2  # levels


def test_grey_plane_comes_back_close(library: str) -> None:
    plane = IMAGE[..., 0]
    decoded = jpeg.decode_grey(jpeg.encode_grey(plane, 95))
    assert decoded.shape == plane.shape
    assert np.abs(decoded.astype(int) - plane).max() <= 6  # levels at quality 95


def test_lower_quality_takes_fewer_bytes(library: str) -> None:
    assert len(jpeg.encode(IMAGE, 60)) < len(jpeg.encode(IMAGE, 95))
    assert len(jpeg.encode_grey(IMAGE[..., 1], 60)) < len(jpeg.encode_grey(IMAGE[..., 1], 95))


def test_chroma_is_halved_both_ways(library: str) -> None:
    data = jpeg.encode(IMAGE)
    start_of_frame = data.index(b"\xff\xc0")
    assert data[start_of_frame + 11] == 0x22  # luma's sampling factors: 2 across, 2 down
    assert data[start_of_frame + 14] == 0x11


def test_strided_images_encode_like_contiguous_ones(library: str) -> None:
    flipped = IMAGE[:, ::-1]
    assert jpeg.encode(flipped) == jpeg.encode(np.ascontiguousarray(flipped))
    plane = IMAGE[..., 2]
    assert jpeg.encode_grey(plane) == jpeg.encode_grey(np.ascontiguousarray(plane))


def test_both_libraries_decode_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    colour, grey = jpeg.encode(IMAGE, 90), jpeg.encode_grey(IMAGE[..., 0], 90)
    turbo = jpeg.decode(colour), jpeg.decode_grey(grey)
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    np.testing.assert_array_equal(jpeg.decode(colour), turbo[0])
    np.testing.assert_array_equal(jpeg.decode_grey(grey), turbo[1])


def test_opencvs_own_jpeg_is_read_exactly(library: str) -> None:
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR))
    assert done
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert bgr is not None
    expected = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(jpeg.decode(encoded.tobytes()), expected)


def test_memoryview_decodes_without_a_copy(library: str) -> None:
    data = jpeg.encode(IMAGE)
    framed = memoryview(b"??" + data + b"??")[2:-2]
    np.testing.assert_array_equal(jpeg.decode(framed), jpeg.decode(data))


@pytest.mark.parametrize("decode", [jpeg.decode, jpeg.decode_grey])
def test_damaged_bytes_are_an_error(library: str, decode: object) -> None:
    data = jpeg.encode(IMAGE)
    for damaged in (b"", b"no image at all", data[: len(data) // 2], data[:-2], data[:20] + bytes(400)):
        with pytest.raises(JpegError, match="not a sound JPEG"):
            decode(damaged)  # type: ignore[operator]


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(InvalidParameterError, match=r"quality must be in \[1, 100\]"):
        jpeg.encode(IMAGE, quality)


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"\(H, W, 3\)"):
        jpeg.encode(IMAGE[..., 0])
    with pytest.raises(InvalidParameterError, match=r"\(H, W\)"):
        jpeg.encode_grey(IMAGE)
    with pytest.raises(InvalidParameterError, match="uint8"):
        jpeg.encode(IMAGE.astype(np.float32))
    with pytest.raises(InvalidParameterError, match="non-empty"):
        jpeg.encode(np.zeros((0, 5, 3), np.uint8))


def test_a_colour_image_has_the_bytes_of_cv2_imwrite() -> None:
    bgr = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR)
    _, usual = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert jpeg.encode(IMAGE, 95) == usual.tobytes()


def test_a_flow_plane_has_the_bytes_of_cv2_imencode() -> None:
    plane = IMAGE[..., 1]
    _, expected = cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert jpeg.encode_grey(plane, 95) == expected.tobytes()


@pytest.mark.parametrize("shape", [(7, 300), (300, 7), (1, 1)])
def test_size_is_read_from_the_header(library: str, shape: tuple[int, int]) -> None:
    assert jpeg.size(jpeg.encode_grey(np.zeros(shape, np.uint8))) == shape
    assert jpeg.size(memoryview(jpeg.encode(np.zeros((*shape, 3), np.uint8)))) == shape


FRAME_HEADER = b"\xff\xc0\x00\x11\x08\x00\x18\x00\x20\x03" + bytes(9)  # of 32x24


@pytest.mark.parametrize(
    "before",
    [
        b"",
        # Fill bytes, ITU-T T.81, B.1.1.2.
        b"\xff\xff\xff",
        # Headers of frames that are none: inside a segment, and behind one whose marker has fill bytes.
        b"\xff\xe0\x00\x15" + FRAME_HEADER,
        b"\xff\xff\xe0\x00\x15" + FRAME_HEADER,
        b"\xff\xe1\x00\x02\xff\xfe\x00\x15" + FRAME_HEADER,
        # DHT, JPG and DAC lie among the markers of frame headers (table B.1).
        b"\xff\xfe\x00\x04\xff\xc0",
    ],
)
def test_size_is_that_of_the_image_whatever_stands_before_its_header(library: str, before: bytes) -> None:
    data = jpeg.encode(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    cheated = data[:2] + before + data[2:]
    assert jpeg.size(cheated) == jpeg.decode(cheated).shape[:2] == (48, 64)


@pytest.mark.parametrize("filler", [b"\xff\xc4\x00\x04ab", b"\xff\xc8\x00\x02", b"\xff\xcc\x00\x03a"])
def test_segments_that_are_no_frame_header_are_passed_by_their_length(
    filler: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    frame = b"\xff\xc2\x00\x0b\x08\x01\x2c\x00\x07"
    assert jpeg.size(b"\xff\xd8" + filler + frame) == (300, 7)


def test_an_image_of_gigabytes_is_refused_by_its_header(library: str) -> None:
    data = bytearray(jpeg.encode_grey(np.zeros((8, 8), np.uint8)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(JpegError, match="claims 65500x65500 px; more than"):
        jpeg.size(bytes(data))


@given(st.binary(max_size=60))
def test_what_is_no_jpeg_has_no_size(data: bytes) -> None:
    for candidate in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xe0" + data):
        for library in (vars(jpeg)["simplejpeg"], None):
            with mock.patch.object(jpeg, "simplejpeg", library):
                try:
                    height, width = jpeg.size(candidate)
                except JpegError:
                    continue
                assert min(height, width) >= 0


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_other_images_of_gigabytes_are_refused_by_their_header(suffix: str) -> None:
    data = bytearray(cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert jpeg.decode_other(bytes(data), grey=False).shape == (8, 8, 3)
    at, order = (16, ">") if suffix == ".png" else (18, "<")
    struct.pack_into(f"{order}ii", data, at, 60000, 60000)
    with pytest.raises(JpegError, match="claims 60000x60000 px; more than"):
        jpeg.decode_other(bytes(data), grey=False)


def test_pipes_devices_and_files_of_gigabytes_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(jpeg.MOST_FILE_BYTES + 1)
    for name, words in (
        ("pipe", "no regular file"),
        ("zero", "no regular file"),
        ("huge", "bytes, an image at"),
    ):
        with pytest.raises(JpegError, match=words):
            ends_in_time(functools.partial(jpeg.read_file, tmp_path / f"{name}.jpg"))
    with pytest.raises(OSError, match="none"):
        jpeg.read_file(tmp_path / "none.jpg")
