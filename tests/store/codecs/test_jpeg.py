from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from flowkit import jpeg
from flowkit.errors import StoreCorruptError
from flowkit.quantize import quantize_u8
from flowkit.store.codecs import flow_codec
from flowkit.store.codecs.jpeg import decode_sized
from tests.make.codes import flow_field


def test_jpeg_pair_is_the_grey_jpeg_of_each_plane() -> None:
    flow = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 50, (32, 40, 2)), (0, 0), 5)
    planes = np.ascontiguousarray(flow.transpose(2, 0, 1).astype(np.float32))
    coded = flow_codec("jpeg", bound_px=20.0).encode(planes)
    assert len(coded.chunks) == 2
    assert coded.crcs == tuple(zlib.crc32(data) for data in coded.chunks)
    decoded = np.stack([jpeg.decode_grey(data) for data in coded.chunks]) * (40 / 255) - 20
    # Quality 95 on a smooth field: a few of the 255 steps of .157 px.
    assert np.abs(decoded - planes).max() < 0.6


def test_jpeg_counts_what_its_bound_clips() -> None:
    flow = np.zeros((2, 4, 4), np.float32)
    flow[0, 0, :3] = 21, -22, 20
    assert flow_codec("jpeg", bound_px=20.0).encode(flow).clipped == 2


def test_planes_of_the_stores_own_bound_are_its_codes() -> None:
    codec, flow = flow_codec("jpeg", bound_px=15.0), flow_field(10.0)
    codes = codec.quantizer.quantize(flow).codes
    assert codec.to_planes(codes, 30 / 255, bound_px=15.0) == (codes, 0)
    other, clipped = codec.to_planes(codes, 30 / 255, bound_px=5.0)
    expected, expected_clipped = quantize_u8(codec.to_px(codes, 30 / 255), bound_px=5.0)
    assert np.array_equal(other, expected)
    assert clipped == expected_clipped > 0


def test_a_field_decodes_to_the_pixels_of_its_two_jpegs() -> None:
    codec = flow_codec("jpeg")
    chunks = codec.encode(flow_field(5.0)).chunks
    codes = codec.unpack(chunks, (30, 40))
    assert (codes.dtype.name, codes.shape) == ("uint8", (2, 30, 40))
    assert np.array_equal(codes[0], jpeg.decode_grey(chunks[0]))
    assert np.array_equal(codes[1], jpeg.decode_grey(chunks[1]))


@pytest.mark.parametrize("grey", [True, False])
def test_an_image_of_another_size_states_both(grey: bool) -> None:
    data = jpeg.encode(np.zeros((6, 8, 3), np.uint8))
    assert decode_sized(data, (6, 8), grey=grey).shape[:2] == (6, 8)
    with pytest.raises(StoreCorruptError, match="JPEG is 8x6, expected 6x8"):
        decode_sized(data, (8, 6), grey=grey)


def test_an_image_that_is_cut_short_is_corrupt() -> None:
    data = jpeg.encode_grey(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    for stop in (30, len(data) // 2, len(data) - len(data) // 4):
        with pytest.raises(StoreCorruptError, match="image is damaged"):
            decode_sized(data[:stop], (64, 64), grey=True)
