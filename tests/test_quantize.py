from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from flowkit import quantize
from flowkit.errors import InvalidParameterError

Flow = NDArray[np.float32]


def flows(limit: float) -> st.SearchStrategy[Flow]:
    values = st.floats(-limit, limit, width=32)
    return arrays(np.float32, (2, 3, 4), elements=values)


@given(flows(2.0**100))
def test_i8_error_stays_within_half_a_scale(flow: Flow) -> None:
    codes, scale = quantize.quantize_i8(flow)
    error = np.abs(quantize.dequantize_i8(codes, scale).astype(np.float64) - flow)
    assert error.max() <= quantize.i8_error_bound(scale)


@given(flows(2.0**100))
def test_i8_scale_is_the_least_that_clips_nothing(flow: Flow) -> None:
    codes, scale = quantize.quantize_i8(flow)
    largest = np.abs(flow.astype(np.float64)).max()
    assert quantize.is_i8_scale(scale)
    assert largest <= 127 * scale
    assert scale == 0.125 or largest > 127 * scale / 2
    assert codes.min() >= -127


def test_i8_zero_is_exact() -> None:
    codes, scale = quantize.quantize_i8(np.zeros((2, 3, 3), np.float32))
    assert not codes.any()
    assert scale == 0.125


def test_i8_scale_is_joint_over_u_and_v() -> None:
    flow = np.zeros((2, 1, 1), np.float32)
    flow[1] = 30
    assert quantize.quantize_i8(flow)[1] == 0.25


@pytest.mark.parametrize(("px", "scale"), [(0.0, 0.125), (15.875, 0.125), (15.876, 0.25), (31.75, 0.25)])
def test_i8_scale_at_its_steps(px: float, scale: float) -> None:
    assert quantize.i8_scale(px) == scale


@pytest.mark.parametrize("scale", [0.0625, 0.2, math.nan, math.inf, -0.125, 0.0])
def test_scales_that_no_field_can_have_are_told(scale: float) -> None:
    assert not quantize.is_i8_scale(scale)


def test_i8_rounds_half_to_even() -> None:
    flow = np.array([0.0625, 0.1875, -0.0625, -0.1875], np.float32).reshape(2, 1, 2)
    assert quantize.quantize_i8(flow)[0].ravel().tolist() == [0, 2, 0, -2]


@given(flows(511.0))
def test_i16_error_stays_within_its_bound(flow: Flow) -> None:
    codes, clipped = quantize.quantize_i16(flow)
    assert clipped == 0
    assert np.abs(quantize.dequantize_i16(codes) - flow).max() <= quantize.i16_error_bound()


def test_i16_saturates_and_counts_what_it_clips() -> None:
    flow = np.array([600.0, -600.0, 1.0, 32767 / 64], np.float32).reshape(2, 1, 2)
    codes, clipped = quantize.quantize_i16(flow)
    assert codes.ravel().tolist() == [32767, -32767, 64, 32767]
    assert clipped == 2


@given(flows(25.0), st.sampled_from([1.0, 15.0, 20.0]))
def test_u8_error_stays_within_its_bound_unless_clipped(flow: Flow, bound: float) -> None:
    codes, clipped = quantize.quantize_u8(flow, bound_px=bound)
    outside = np.abs(flow) > bound
    assert clipped == outside.sum()
    error = np.abs(quantize.dequantize_u8(codes, bound_px=bound) - flow)
    # The table of decoded values is float32: half a unit in the last place of 20 px.
    assert np.all(error[~outside] <= quantize.u8_error_bound(bound) + 2e-6)


def test_u8_is_the_mapping_of_tsn_and_denseflow() -> None:
    flow = np.linspace(-21, 21, 2 * 50 * 100).astype(np.float32).reshape(2, 50, 100)

    def cast(value: float) -> int:  # convertFlowToImage, with cvRound of OpenCV itself
        if abs(value) > 20:
            return 255 if value > 0 else 0
        return int(cv2.convertScaleAbs(np.array([[255 * (value + 20) / 40]]))[0, 0])

    expected = [cast(float(value)) for value in flow.ravel()]
    assert quantize.quantize_u8(flow, bound_px=20.0)[0].ravel().tolist() == expected


def test_u8_zero_becomes_128() -> None:
    codes, _ = quantize.quantize_u8(np.zeros((2, 1, 1), np.float32), bound_px=20.0)
    assert codes.ravel().tolist() == [128, 128]
    assert quantize.dequantize_u8(codes, bound_px=20.0).max() == pytest.approx(20 / 255)


@given(arrays(np.int8, (2, 3, 4), elements=st.integers(-127, 127)), st.integers(0, 20))
def test_i8_codes_survive_decoding_and_coding_again(codes: NDArray[np.int8], k: int) -> None:
    scale = 0.125 * 2**k
    flow = quantize.dequantize_i8(codes, scale)
    again, its_scale = quantize.quantize_i8(flow)
    assert np.array_equal(quantize.dequantize_i8(again, its_scale), flow)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_flow_that_is_not_finite_is_refused(value: float) -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 1, 1] = value
    with pytest.raises(InvalidParameterError, match="finite"):
        quantize.quantize_i8(flow)
    with pytest.raises(InvalidParameterError, match="finite"):
        quantize.quantize_i16(flow)
    with pytest.raises(InvalidParameterError, match="finite"):
        quantize.quantize_u8(flow, bound_px=20.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_bounds_out_of_range_are_refused(bound: float) -> None:
    with pytest.raises(InvalidParameterError, match="bound_px"):
        quantize.quantize_u8(np.zeros((2, 1, 1), np.float32), bound_px=bound)
