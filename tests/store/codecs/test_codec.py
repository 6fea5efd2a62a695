from __future__ import annotations

import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError, StoreCorruptError
from flowkit.quantize import Quantized, quantize_u8
from flowkit.store.codecs import FLOW_CODECS, flow_codec
from flowkit.store.codecs.codec import ChunkCodec, FlowCodec

Flow = NDArray[np.float32]
EVERY = pytest.mark.parametrize("codec", [flow_codec(name, bound_px=16.0) for name in FLOW_CODECS])


def quantized(codec: FlowCodec) -> Quantized:
    """Return one field, (2, 12, 20)."""
    return codec.quantizer.quantize(np.random.default_rng(0).normal(0, 9, (2, 12, 20)).astype(np.float32))


def field(codec: FlowCodec) -> tuple[NDArray[np.number], float]:
    """Return the codes of one field, (2, 12, 20), and their scale."""
    made = quantized(codec)
    return made.codes, made.scale


@pytest.mark.parametrize(
    "flow",
    [np.zeros((2, 3, 3)), np.zeros((3, 3, 2), np.float32), np.full((2, 3, 3), np.nan, np.float32)],
)
def test_what_is_no_flow_field_is_refused(flow: Flow) -> None:
    with pytest.raises(InvalidParameterError, match="flow must be"):
        flow_codec("i8").encode(flow)


@EVERY
def test_an_encoded_field_has_its_crcs_and_its_scale(codec: FlowCodec) -> None:
    made = quantized(codec)._replace(clipped=7)
    packed = codec.encode_codes(made)
    assert packed.chunks == codec.pack(made.codes)
    assert len(packed.chunks) == codec.storage.chunks_per_item
    assert packed.crcs == tuple(zlib.crc32(chunk) for chunk in packed.chunks)
    assert (packed.codec, packed.max_px, packed.clipped) == (codec.name, made.largest_px, 7)
    assert packed.scale == made.scale == np.float32(made.scale)


@EVERY
def test_flow_is_codes_times_scale_plus_offset(codec: FlowCodec) -> None:
    codes, scale = field(codec)
    expected = codes.astype(np.float64) * scale + codec.offset_px
    # float32 of at most 64 px: half a unit in the last place is 2e-6 px.
    assert np.abs(codec.to_px(codes, scale) - expected).max() <= 2e-6
    assert codec.offset_px == (-16.0 if codec.bounded else 0.0)


@EVERY
def test_each_form_is_what_its_method_returns(codec: FlowCodec) -> None:
    codes, scale = field(codec)
    expected = {
        "codes": (codes, scale, codec.offset_px),
        "px": (codec.to_px(codes, scale), 1.0, 0.0),
        "tsn": (codec.to_planes(codes, scale, bound_px=5.0)[0], 10 / 255, -5.0),
    }
    for form in ("codes", "px", "tsn"):
        values, unit, offset = expected[form]
        out = np.full(codes.shape, 99, codec.form_dtype(form))
        assert codec.put(form, codes, scale, bound_px=5.0, out=out) == unit
        assert out.dtype == values.dtype
        assert np.array_equal(out, values)
        assert codec.form_offset_px(form, bound_px=5.0) == offset


@EVERY
def test_planes_are_the_flow_in_uint8_and_count_what_they_clip(codec: FlowCodec) -> None:
    codes, scale = field(codec)
    planes, clipped = codec.to_planes(codes, scale, bound_px=5.0)
    expected, expected_clipped = quantize_u8(codec.to_px(codes, scale), bound_px=5.0)
    assert np.array_equal(planes, expected)
    assert clipped == expected_clipped > 0


@EVERY
def test_scales_that_are_not_stored_are_the_codecs_own(codec: FlowCodec) -> None:
    if codec.quantizer.fixed_scale is None:
        with pytest.raises(StoreCorruptError, match="has no scales, and its codec has one for each field"):
            codec.checked_scales(None, 3)
    else:
        scales = codec.checked_scales(None, 3)
        assert scales.dtype == np.float32
        assert scales.tolist() == [quantized(codec).scale] * 3


@EVERY
def test_the_scale_of_every_field_is_accepted(codec: FlowCodec) -> None:
    flow = np.random.default_rng(0).normal(0, 1, (2, 12, 20)).astype(np.float32)
    made = [codec.quantizer.quantize(flow * np.float32(px)).scale for px in (0, 1, 9, 70, 1e6)]
    scales = np.array(made, np.float32)
    assert codec.checked_scales(scales, 5) is scales


@EVERY
@pytest.mark.parametrize("wrong", [0.0, -1 / 8, 0.1, np.nan, np.inf])
def test_a_stored_scale_that_the_codec_cannot_have_is_corrupt(codec: FlowCodec, wrong: float) -> None:
    scales = np.full(3, quantized(codec).scale, np.float32)
    scales[1] = wrong
    with pytest.raises(StoreCorruptError, match="a scale that its codec cannot have"):
        codec.checked_scales(scales, 3)


@EVERY
def test_the_code_of_a_missing_chunk_is_refused_where_there_is_one(codec: FlowCodec) -> None:
    codes, _ = field(codec)
    codec.check_codes(codes)
    codes[1, 3, 4] = np.iinfo(codec.dtype.name).min
    if isinstance(codec, ChunkCodec):
        with pytest.raises(StoreCorruptError, match=f"has the code {codec.storage.fill:g}, which no codec"):
            codec.check_codes(codes)
    else:
        codec.check_codes(codes)


def test_a_field_of_another_type_states_what_was_given() -> None:
    with pytest.raises(InvalidParameterError, match=r"float32 \(2, H, W\), got float64 \(2, 3, 4\)"):
        flow_codec("i8").encode(np.zeros((2, 3, 4)))  # type: ignore[arg-type]
