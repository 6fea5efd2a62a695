from __future__ import annotations

import dataclasses
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
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP, QUANTILE_SCALE
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


def exact_quantile(flow: Flow, per_mille: int) -> float:
    """The definition itself, in whole numbers: the least component that enough of them do not exceed."""
    sizes = sorted(abs(float(px)) for px in flow.ravel())
    return next(px for px in sizes if 1000 * sum(other <= px for other in sizes) >= per_mille * len(sizes))


@given(flows(100.0), st.integers(1, 1000), st.sampled_from([0.0, 1.0, 60.0]))
def test_a_quantile_is_the_least_component_that_enough_do_not_exceed(
    flow: Flow, per_mille: int, least: float
) -> None:
    expected = exact_quantile(flow, per_mille)
    assert quantize.quantile_px(flow, per_mille) == expected
    assert quantize.quantile_px(flow, per_mille, at_least_px=least) == max(least, expected)


@pytest.mark.parametrize(("n", "greater"), [(2, 0), (998, 0), (1000, 1), (1998, 1), (2000, 2), (174080, 174)])
def test_the_999th_of_a_thousand_has_a_thousandth_above_it(n: int, greater: int) -> None:
    flow = np.random.default_rng(0).permutation(n).astype(np.float32).reshape(2, 1, -1)
    assert quantize.quantile_px(flow, 999) == n - 1 - greater


def test_a_quantile_of_nothing_is_the_least() -> None:
    assert quantize.quantile_px(np.zeros((2, 0, 3), np.float32), 999) == 0


def outliers(share: float, px: float, *, sigma_px: float = 3.0) -> Flow:
    """Noise of which a share, by chance, is multiplied, float32 (2, 48, 64)."""
    rng = np.random.default_rng(0)
    flow = rng.normal(0, sigma_px, (2, 48, 64))
    flow[rng.random(flow.shape) < share] *= px
    return flow.astype(np.float32)


@given(st.floats(0, 1), st.floats(0, 1e30), st.floats(0, 300))
def test_q8_holds_999_of_a_thousand_within_half_its_scale(share: float, px: float, sigma_px: float) -> None:
    flow = outliers(share, px, sigma_px=sigma_px)
    codes, scale, largest, clipped = QUANTILE_SCALE.quantize(flow)
    error = np.abs(QUANTILE_SCALE.dequantize(codes, scale).astype(np.float64) - flow)
    # Two roundings of float32, of the scale and of the product.
    tolerance = max(1 / 16, quantize.quantile_px(flow, 999) / 250) * (1 + 2.0**-22) + 125 * scale * 2.0**-23
    assert np.count_nonzero(error > tolerance) <= flow.size // 1000
    assert clipped == np.count_nonzero(error > 0.5001 * scale) <= flow.size // 1000
    assert largest == np.abs(flow).max()
    assert scale <= FIELD_SCALE.scale_px(largest)
    assert QUANTILE_SCALE.are_scales(np.array([scale], np.float32))
    assert not codes[flow == 0].any()
    assert codes.min() >= -127


@given(flows(15.875))
def test_q8_of_small_motion_has_the_codes_of_i8(flow: Flow) -> None:
    q8, i8 = QUANTILE_SCALE.quantize(flow), FIELD_SCALE.quantize(flow)
    assert q8[1:] == i8[1:] == (1 / 8, np.abs(flow).max(), 0)
    assert np.array_equal(q8.codes, i8.codes)


@pytest.mark.parametrize(
    ("largest", "quantile", "scale"),
    [
        (15.875, 15.875, 0.125),
        (15.876, 15.876, np.float32(15.876) / np.float32(127)),  # nothing saturates
        (900.0, 15.625, 0.125),
        (900.0, 15.626, np.float32(15.626) / np.float32(125)),
        (900.0, 100.0, np.float32(0.8)),
        (101.0, 100.0, np.float32(101) / np.float32(127)),  # finer than the quantile asks for
        (3e38, 3e38, np.float32(3e38) / np.float32(127)),
        (3e38, 0.0, 0.125),
    ],
)
def test_q8_scale_at_its_steps(largest: float, quantile: float, scale: float) -> None:
    flow = np.zeros((2, 25, 40), np.float32)  # two of 2,000 may be greater
    flow.flat[:2], flow.flat[2] = (largest, -largest), -quantile
    made = QUANTILE_SCALE.quantize(flow)
    assert made.scale == scale
    assert made.largest_px == np.float32(largest)
    assert made.clipped == 2 * (largest > 128 * scale)
    assert made.codes.flat[0] == -made.codes.flat[1] == min(127, round(largest / float(scale)))
    assert made.codes[flow == 0].tolist() == [0] * np.count_nonzero(flow == 0)


@given(flows(200.0))
def test_q8_codes_survive_decoding_and_coding_again(flow: Flow) -> None:
    made = QUANTILE_SCALE.quantize(flow)
    again = QUANTILE_SCALE.quantize(QUANTILE_SCALE.dequantize(made.codes, made.scale))
    assert np.array_equal(again.codes, made.codes)
    assert again.scale == pytest.approx(made.scale, rel=2.0**-22)  # a product and a quotient are rounded


@pytest.mark.parametrize("scale", [0.12499, math.nan, math.inf, -0.125, 0.0])
def test_scales_that_no_field_of_q8_can_have_are_recognised(scale: float) -> None:
    assert QUANTILE_SCALE.are_scales(np.array([0.125, 0.3, 1e30], np.float32))
    assert not QUANTILE_SCALE.are_scales(np.array([0.125, scale], np.float32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantile_code": 0}, r"quantile_code must be in \[1, 127\], got 0"),
        ({"quantile_code": 128}, r"quantile_code must be in \[1, 127\], got 128"),
        ({"per_mille": 1001}, r"per_mille must be in \[1, 1000\], got 1001"),
        ({"unit_px": 0.3}, "unit_px must be a power of two"),
        ({"limit": 128}, r"limit must be in \[1, 127\] for int8"),
    ],
)
def test_quantile_rules_that_cannot_be_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        dataclasses.replace(QUANTILE_SCALE, **changes)  # type: ignore[arg-type]


@given(flows(511.0))
def test_i16_error_stays_within_its_bound(flow: Flow) -> None:
    codes, scale, _, clipped = FIXED_STEP.quantize(flow)
    assert clipped == 0
    assert scale == 1 / 64
    assert np.abs(FIXED_STEP.dequantize(codes, scale) - flow).max() <= scale / 2


def test_i16_saturates_and_counts_what_it_clips() -> None:
    flow = np.array([600.0, -600.0, 1.0, 32767 / 64], np.float32).reshape(2, 1, 2)
    codes, _, _, clipped = FIXED_STEP.quantize(flow)
    assert codes.ravel().tolist() == [32767, -32767, 64, 32767]
    assert clipped == 2


@given(flows(25.0), st.sampled_from([1.0, 15.0, 20.0]))
def test_u8_error_stays_within_its_bound_unless_clipped(flow: Flow, bound: float) -> None:
    codes, clipped = quantize.quantize_u8(flow, bound_px=bound)
    outside = np.abs(flow) > bound
    assert clipped == outside.sum()
    error = np.abs(quantize.dequantize_u8(codes, bound_px=bound) - flow)
    # The table of decoded values is float32: half a unit in the last place of 20 px.
    assert np.all(error[~outside] <= BoundedRange(bound_px=bound).fixed_scale / 2 + 2e-6)


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
        QUANTILE_SCALE.quantize(flow)
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
    assert np.allclose(px, codes * rule.fixed_scale + rule.offset_px, atol=2e-6)
    assert rule.are_scales(np.array([40 / 255], np.float32))
    assert not rule.are_scales(np.array([30 / 255], np.float32))
