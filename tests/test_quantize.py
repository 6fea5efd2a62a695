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
from flowkit.quantize import BoundedRange, FieldScale, FixedStep
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP
from tests.make.codes import field_codes

Flow = NDArray[np.float32]


def flows(limit: float) -> st.SearchStrategy[Flow]:
    values = st.floats(-limit, limit, width=32)
    return arrays(np.float32, (2, 3, 4), elements=values)


@given(flows(2.0**100))
def test_i8_error_stays_within_half_a_scale(flow: Flow) -> None:
    codes, scale = field_codes(flow)
    error = np.abs(FIELD_SCALE.dequantize(codes, scale).astype(np.float64) - flow)
    assert error.max() <= scale / 2 == FIELD_SCALE.scale_px(quantize.largest_px(flow)) / 2


@given(flows(2.0**100))
def test_i8_scale_is_the_least_that_clips_nothing(flow: Flow) -> None:
    codes, scale = field_codes(flow)
    largest = np.abs(flow.astype(np.float64)).max()
    assert FIELD_SCALE.are_scales(np.array([0.125, scale], np.float32))
    assert largest <= 127 * scale
    assert scale == 0.125 or largest > 127 * scale / 2
    assert codes.min() >= -127


def test_i8_zero_is_exact() -> None:
    codes, scale = field_codes(np.zeros((2, 3, 3), np.float32))
    assert not codes.any()
    assert scale == 0.125


def test_i8_scale_is_joint_over_u_and_v() -> None:
    flow = np.zeros((2, 1, 1), np.float32)
    flow[1] = 30
    assert field_codes(flow)[1] == 0.25


@pytest.mark.parametrize(("px", "scale"), [(0.0, 0.125), (15.875, 0.125), (15.876, 0.25), (31.75, 0.25)])
def test_i8_scale_at_its_steps(px: float, scale: float) -> None:
    assert FIELD_SCALE.scale_px(px) == scale


@pytest.mark.parametrize("scale", [0.0625, 0.2, math.nan, math.inf, -0.125, 0.0])
def test_scales_that_no_field_can_have_are_recognised(scale: float) -> None:
    assert not FIELD_SCALE.are_scales(np.array([0.125, scale], np.float32))


def test_i8_rounds_half_to_even() -> None:
    flow = np.array([0.0625, 0.1875, -0.0625, -0.1875], np.float32).reshape(2, 1, 2)
    assert FIELD_SCALE.quantize(flow).codes.ravel().tolist() == [0, 2, 0, -2]


@given(flows(511.0))
def test_i16_error_stays_within_its_bound(flow: Flow) -> None:
    codes, largest, clipped = FIXED_STEP.quantize(flow)
    assert clipped == 0
    assert np.abs(FIXED_STEP.dequantize(codes, 1 / 64) - flow).max() <= FIXED_STEP.scale_px(largest) / 2
    assert FIXED_STEP.scale_px(largest) / 2 == 1 / 128


def test_i16_saturates_and_counts_what_it_clips() -> None:
    flow = np.array([600.0, -600.0, 1.0, 32767 / 64], np.float32).reshape(2, 1, 2)
    codes, _, clipped = FIXED_STEP.quantize(flow)
    assert codes.ravel().tolist() == [32767, -32767, 64, 32767]
    assert clipped == 2


@given(flows(25.0), st.sampled_from([1.0, 15.0, 20.0]))
def test_u8_error_stays_within_its_bound_unless_clipped(flow: Flow, bound: float) -> None:
    codes, clipped = quantize.quantize_u8(flow, bound_px=bound)
    outside = np.abs(flow) > bound
    assert clipped == outside.sum()
    error = np.abs(quantize.dequantize_u8(codes, bound_px=bound) - flow)
    # The table of decoded values is float32: half a unit in the last place of 20 px.
    assert np.all(error[~outside] <= BoundedRange(bound_px=bound).scale_px(25.0) / 2 + 2e-6)


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
    flow = FIELD_SCALE.dequantize(codes, scale)
    again, its_scale = field_codes(flow)
    assert np.array_equal(FIELD_SCALE.dequantize(again, its_scale), flow)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_flow_that_is_not_finite_is_refused(value: float) -> None:
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 1, 1] = value
    with pytest.raises(InvalidParameterError, match="finite"):
        FIELD_SCALE.quantize(flow)
    with pytest.raises(InvalidParameterError, match="finite"):
        FIXED_STEP.quantize(flow)
    with pytest.raises(InvalidParameterError, match="finite"):
        quantize.quantize_u8(flow, bound_px=20.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_bounds_out_of_range_are_refused(bound: float) -> None:
    with pytest.raises(InvalidParameterError, match="bound_px"):
        quantize.quantize_u8(np.zeros((2, 1, 1), np.float32), bound_px=bound)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf, None])
def test_ranges_without_a_bound_are_refused(bound: float) -> None:
    with pytest.raises(InvalidParameterError, match=f"bound_px must be finite and > 0, got {bound}"):
        BoundedRange(bound_px=bound)


@pytest.mark.parametrize(
    ("dtype", "px", "limit", "words"),
    [
        ("u1", 0.125, 100, "signed integer, got 'uint8'"),
        ("f4", 0.125, 100, "signed integer, got 'float32'"),
        ("i1", 0.125, 128, r"limit must be in \[1, 127\] for int8, got 128"),
        ("i4", 0.125, 1 << 25, r"limit must be in \[1, 16777216\]"),
        ("i1", 0.0, 100, "px must be .*, got 0.0"),
    ],
)
def test_rules_that_cannot_be_are_refused(dtype: str, px: float, limit: int, words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        FieldScale(dtype=np.dtype(dtype), unit_px=px, limit=limit)
    with pytest.raises(InvalidParameterError, match=words):
        FixedStep(dtype=np.dtype(dtype), step_px=px, limit=limit)


def test_a_unit_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"unit_px must be a power of two, got 0\.3"):
        FieldScale(dtype=np.dtype("i1"), unit_px=0.3, limit=127)


def test_codes_of_a_range_decode_as_their_scale_and_offset_say() -> None:
    rule = BoundedRange(bound_px=20.0)
    codes = np.arange(256, dtype=np.uint8)
    px, out = rule.dequantize(codes, 0.0), np.zeros(256, np.float32)
    assert rule.dequantize(codes, 0.0, out=out) is out
    assert np.array_equal(out, px)
    assert np.allclose(px, codes * rule.scale_px(3.0) + rule.offset_px, atol=2e-6)
    assert rule.are_scales(np.array([40 / 255], np.float32))
    assert not rule.are_scales(np.array([30 / 255], np.float32))
