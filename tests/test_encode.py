from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flowkit.encode import encode_batch, wanted_code
from flowkit.extraction.config import ExtractConfig, store_options
from flowkit.store.codec import EncodedFlow, encode_flow
from flowkit.tvl1.codes_solver import codes_solver
from tests.tvl1.test_codes_solver import FRAMES, PAIRS, Given, flows


def same(one: EncodedFlow, other: EncodedFlow) -> bool:
    # NaN, the scale of a JPEG, is no scale but the same.
    return repr(dataclasses.astuple(one)) == repr(dataclasses.astuple(other))


@pytest.mark.parametrize("codec", ["i8", "i16", "jpeg"])
def test_codes_pack_to_the_bytes_of_their_floats(codec: str) -> None:
    options = dataclasses.replace(
        store_options(ExtractConfig(), backend="cpu"), flow_codec=codec, bound_px=15.0
    )
    flow = np.concatenate([flows()[:2], np.zeros_like(flows()[:1])])
    code, bound_px = wanted_code(options)
    made = codes_solver(Given(flow)).codes_batch(FRAMES, PAIRS, code=code, bound_px=bound_px)
    packed = list(encode_batch(made, codec))
    expected = [encode_flow(each, codec=codec, bound_px=15.0) for each in flow]
    assert len(packed) == 3
    assert all(same(one, other) for one, other in zip(packed, expected, strict=True))
    assert (expected[1].clipped > 0) == (codec == "jpeg")
