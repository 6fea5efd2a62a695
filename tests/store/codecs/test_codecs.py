from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit import jpeg
from flowkit.errors import InvalidParameterError, StoreCorruptError
from flowkit.store.codecs import deflate, flow_codec
from flowkit.store.codecs.deflate import decode_chunk, shuffle, unshuffle
from flowkit.store.codecs.jpeg import jpeg_size

Flow = NDArray[np.float32]
FIELDS = arrays(np.float32, (2, 5, 7), elements=st.floats(-(2.0**20), 2.0**20, width=32))
SMALL = arrays(np.float32, (2, 5, 7), elements=st.floats(-500, 500, width=32))


@given(FIELDS)
def test_i8_decodes_to_within_half_a_scale(flow: Flow) -> None:
    coded = flow_codec("i8").encode(flow)
    codes = flow_codec("i8").unpack(coded.chunks, (5, 7))
    assert codes.dtype == np.int8
    assert np.abs(codes * coded.scale - flow.astype(np.float64)).max() <= coded.scale / 2
    assert coded.max_px == np.abs(flow).max()
    assert coded.clipped == 0
    assert coded.crcs == (zlib.crc32(coded.chunks[0]),)


@given(SMALL)
def test_i16_decodes_to_within_half_a_step(flow: Flow) -> None:
    coded = flow_codec("i16").encode(flow)
    codes = flow_codec("i16").unpack(coded.chunks, (5, 7))
    assert codes.dtype == np.int16
    assert np.abs(codes / 64 - flow).max() <= 1 / 128


def test_without_libdeflate_zlib_reads_and_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = np.random.default_rng(0).normal(0, 3, (2, 9, 9)).astype(np.float32)
    (there,) = flow_codec("i8").encode(flow).chunks
    monkeypatch.setattr(deflate, "_deflate", None)
    (here,) = flow_codec("i8").encode(flow).chunks
    assert deflate.deflate_library().startswith("zlib")
    codes = flow_codec("i8").unpack([there], (9, 9))
    assert np.array_equal(codes, flow_codec("i8").unpack([here], (9, 9)))
    for wrong in (here[:-5], b"", b"x" * 100, zlib.compress(bytes(500))):
        with pytest.raises(StoreCorruptError):
            flow_codec("i8").unpack([wrong], (9, 9))


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


@pytest.mark.parametrize(
    "flow",
    [np.zeros((2, 3, 3)), np.zeros((3, 3, 2), np.float32), np.full((2, 3, 3), np.nan, np.float32)],
)
def test_what_is_no_flow_field_is_refused(flow: Flow) -> None:
    with pytest.raises(InvalidParameterError, match="flow must be"):
        flow_codec("i8").encode(flow)


def test_unknown_codec_names_the_supported() -> None:
    with pytest.raises(InvalidParameterError, match="i16"):
        flow_codec("zfp")


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", zlib.compress(bytes(99)), zlib.compress(bytes(101)), zlib.compress(bytes(100))[:-3]],
)
def test_chunks_of_another_size_or_none_at_all_are_corrupt(data: bytes) -> None:
    with pytest.raises(StoreCorruptError):
        decode_chunk(data, dtype=np.dtype("i1"), shape=(5, 10), shuffled=False)


def test_size_is_held_to_the_bytes_before_anything_is_allocated() -> None:
    with pytest.raises(StoreCorruptError, match="cannot hold"):
        flow_codec("i16").unpack([zlib.compress(bytes(100))], (60_000, 60_000))


@given(arrays(np.int16, (2, 3, 5)))
def test_shuffle_is_undone(codes: NDArray[np.int16]) -> None:
    assert np.array_equal(unshuffle(shuffle(codes), codes.dtype), codes.ravel())


@pytest.mark.parametrize("shape", [(7, 300), (300, 7), (1, 1)])
def test_jpeg_size_is_read_from_the_header(shape: tuple[int, int]) -> None:
    assert jpeg_size(jpeg.encode_grey(np.zeros(shape, np.uint8))) == shape
    assert jpeg_size(jpeg.encode(np.zeros((*shape, 3), np.uint8))) == shape


@given(st.binary(max_size=60))
def test_what_is_no_jpeg_is_corrupt(data: bytes) -> None:
    for candidate in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xe0" + data):
        try:
            height, width = jpeg_size(candidate)
        except StoreCorruptError:
            continue
        assert height >= 0
        assert width >= 0
