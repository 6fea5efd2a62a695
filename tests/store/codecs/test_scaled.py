from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit.quantize import quantize_u8
from flowkit.store.codecs import flow_codec
from flowkit.store.codecs.codec import FlowCodec
from flowkit.store.codecs.scaled import FIXED_STEP
from tests.make.codes import field_codes, flow_field

Flow = NDArray[np.float32]
NARROW, WIDE = flow_codec("i8"), flow_codec("i16")
FIELDS = arrays(np.float32, (2, 5, 7), elements=st.floats(-(2.0**20), 2.0**20, width=32))


CODES_CRC32 = {"q8": 0xB8CD757C, "i8": 0x7B95332B, "i16": 0x91AAA4A8}
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


@pytest.mark.parametrize("px", [0.3, 4.0, 30.0])
def test_requantised_codes_are_those_of_the_dequantised_flow(px: float) -> None:
    codes, scale = field_codes(flow_field(px))
    planes, clipped = NARROW.to_planes(codes, scale, bound_px=20)
    expected, expected_clipped = quantize_u8(codes * np.float32(scale), bound_px=20)
    assert np.array_equal(planes, expected)
    assert clipped == expected_clipped


def test_wide_codes_are_requantised_alike() -> None:
    codes = FIXED_STEP.quantize(flow_field(15.0)).codes
    planes, clipped = WIDE.to_planes(codes, 1 / 64, bound_px=20)
    expected, expected_clipped = quantize_u8(FIXED_STEP.dequantize(codes, 1 / 64), bound_px=20)
    assert np.array_equal(planes, expected)
    assert clipped == expected_clipped > 0


def c_cast(v: float, low: float, high: float) -> int:
    """dense_flow's macro: ends first, then cvRound, which rounds half to even, in double."""
    if v > high:
        return 255
    if v < low:
        return 0
    return int(np.rint(255 * (v - low) / (high - low)))


@pytest.mark.parametrize("bound", [15.0, 20.0, 32.0])
def test_every_code_is_what_dense_flows_macro_makes_of_it(bound: float) -> None:
    codes = np.arange(-4096, 4096, dtype=np.int16).reshape(2, 64, 64)
    planes, _ = WIDE.to_planes(codes, 1 / 64, bound_px=bound)
    expected = [c_cast(float(code) / 64, -bound, bound) for code in codes.ravel()]
    assert planes.ravel().tolist() == expected


def test_zero_flow_is_128_and_the_bound_is_reached() -> None:
    codes = np.array([0, 20, -20, 21, -21], np.int8).reshape(1, 1, 5)
    planes, clipped = NARROW.to_planes(codes, 1.0, bound_px=20)
    assert planes.ravel().tolist() == [128, 255, 0, 255, 0]
    assert clipped == 2


@pytest.mark.parametrize("name", ["q8", "i8", "i16"])
def test_stored_codes_are_those_of_the_rule(name: str) -> None:
    codec, flow = flow_codec(name), flow_field(6.0)
    (chunk,) = codec.encode(flow).chunks
    assert np.array_equal(codec.unpack([chunk], (30, 40)), codec.quantizer.quantize(flow).codes)


def pinned_field() -> Flow:
    """Two ramps and one outlier, float32 (2, 6, 90)."""
    y, x = np.mgrid[0:6, 0:90]
    flow = np.stack([(x - 45) * 0.37, (y - 3) * 2.9 + x * 0.11]).astype(np.float32)
    flow[1, 5, 89] = -300
    return flow


@pytest.mark.parametrize(
    ("name", "scale", "clipped", "u", "v"),
    [
        ("q8", 0.13319998979568481, 1, [-125, -122, -119, -117], [114, 115, 115, 116, -127]),
        ("i8", 4.0, 0, [-4, -4, -4, -4], [4, 4, 4, 4, -75]),
        ("i16", 1 / 64, 0, [-1066, -1042, -1018, -995], [970, 977, 984, 991, -19200]),
    ],
)
def test_codes_and_scale_of_a_field_stay_what_they_are(
    name: str, scale: float, clipped: int, u: list[int], v: list[int]
) -> None:
    codec = flow_codec(name)
    coded = codec.encode(pinned_field())
    assert (coded.scale, coded.clipped, coded.max_px) == (scale, clipped, 300.0)
    codes = codec.unpack(coded.chunks, (6, 90))
    assert (codes[0, 0, :4].tolist(), codes[1, 5, -5:].tolist()) == (u, v)
    assert zlib.crc32(codes.tobytes()) == CODES_CRC32[name]


@given(SMALL)
def test_q8_decodes_by_the_line_of_plain_h5py(flow: Flow) -> None:
    coded = flow_codec("q8").encode(flow)
    codes = flow_codec("q8").unpack(coded.chunks, (5, 7))
    assert codes.dtype == np.int8
    px = codes * np.array([coded.scale], np.float32).reshape(-1, 1, 1)
    assert np.array_equal(px, flow_codec("q8").to_px(codes, coded.scale))
    assert np.abs(px - flow.astype(np.float64)).max() <= coded.scale * 0.50001  # of 70, none may saturate


def test_scale_of_a_field_is_the_finest_that_holds_it() -> None:
    for px, scale in ((0.0, 1 / 8), (127 / 8, 1 / 8), (127 / 8 + 0.01, 1 / 4), (127.0, 1.0), (128.0, 2.0)):
        coded = NARROW.encode(np.full((2, 3, 4), px, np.float32))
        assert (coded.scale, coded.clipped) == (scale, 0)


def test_wide_codes_saturate_at_512_px_and_are_counted() -> None:
    flow = np.array([0, 511.98, -511.99, 512, -513, 2000], np.float32).reshape(2, 1, 3)
    coded = WIDE.encode(flow)
    assert WIDE.unpack(coded.chunks, (1, 3)).ravel().tolist() == [0, 32767, -32767, 32767, -32767, 32767]
    assert (coded.scale, coded.clipped, coded.max_px) == (1 / 64, 3, 2000)


@pytest.mark.parametrize("codec", [flow_codec("q8"), NARROW, WIDE])
def test_no_flow_has_the_code_of_a_missing_chunk(codec: FlowCodec) -> None:
    least = np.iinfo(codec.dtype.name).min
    assert codec.storage.fill == least
    for px in (-127 / 8, -16.0, -32.0, -1e5):
        (chunk,) = codec.encode(np.full((2, 2, 2), px, np.float32)).chunks
        assert codec.unpack([chunk], (2, 2)).min() > least
