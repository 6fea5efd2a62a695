from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.quantize import quantize_u8
from flowkit.store.codecs import flow_codec
from flowkit.store.codecs.scaled import FIXED_STEP
from tests.make.codes import field_codes

NARROW, WIDE = flow_codec("i8"), flow_codec("i16")


def flow_field(px: float) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, px, (2, 30, 40)).astype(np.float32)


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


def test_planes_of_the_stores_own_bound_are_its_codes() -> None:
    codec, flow = flow_codec("jpeg", bound_px=15.0), flow_field(10.0)
    codes = codec.quantizer.quantize(flow).codes
    assert codec.to_planes(codes, 30 / 255, bound_px=15.0) == (codes, 0)
    other, clipped = codec.to_planes(codes, 30 / 255, bound_px=5.0)
    expected, expected_clipped = quantize_u8(codec.to_px(codes, 30 / 255), bound_px=5.0)
    assert np.array_equal(other, expected)
    assert clipped == expected_clipped > 0
