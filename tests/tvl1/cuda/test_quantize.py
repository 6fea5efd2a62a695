from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import i8_scale, quantize_i8, quantize_i16, quantize_u8
from flowkit.tvl1.codes import Code, FlowCodes, check_code
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.plan import TileShape
from flowkit.tvl1.cuda.quantize import checked_largest, enqueue_codes
from flowkit.tvl1.params import TVL1Params
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


def quantise(flow: NDArray[np.float32], code: Code, bound_px: float | None = None) -> FlowCodes:
    device = cuda_device.open_device(0)
    made = enqueue_codes(device, device.upload(flow), code, bound_px)
    codes, largest, clipped = (array.get() for array in made)
    return FlowCodes(codes=codes, largest_px=checked_largest(largest), clipped=clipped)


def flows() -> NDArray[np.float32]:
    """Flows of many magnitudes, with the halves and the edges of codes among them."""
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(6, 2, 17, 23)) * np.array([0, 1, 10, 16, 200, 2000])[:, None, None, None]
    flow[1, 0, 0] = (np.arange(23) - 11) / 16
    flow[2, 0, 0, :6] = 15.875, -15.875, 15.874, 31.75, -31.76, 0
    flow[3, 1, 0, :4] = 20, -20, 20.0001, -19.9999
    flow[4, 0, 0, :4] = 511.984375, -511.984375, 512, -600
    rounded: NDArray[np.float32] = flow.astype(np.float32)
    return rounded


@needs_compiler
@pytest.mark.parametrize("code", ["i8", "i16", "u8"])
def test_emulated_codes_are_the_hosts_bit_for_bit(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    made = quantise(flows(), code, 20.0 if code == "u8" else None)
    for flow, codes, scale, clipped in zip(flows(), made.codes, made.i8_scales, made.clipped, strict=True):
        expected: tuple[NDArray[Any], float]
        if code == "i8":
            expected = quantize_i8(flow)
            assert expected[1] == scale
            assert clipped == 0
        else:
            expected = quantize_i16(flow) if code == "i16" else quantize_u8(flow, bound_px=20.0)
            assert expected[1] == clipped
        np.testing.assert_array_equal(codes, expected[0])


@needs_compiler
def test_emulated_scales_are_the_hosts_next_to_every_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    edges = np.float32(15.875) * np.float32(2) ** np.arange(40, dtype=np.float32)
    largest = np.concatenate(
        [edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1e38))]
    )
    flow = np.zeros((len(largest), 2, 1, 1), np.float32)
    flow[:, 1, 0, 0] = -largest
    made = quantise(flow, "i8")
    np.testing.assert_array_equal(made.largest_px, largest)
    expected = [round(-float(px) / i8_scale(float(px))) for px in largest]
    np.testing.assert_array_equal(made.codes[:, 1, 0, 0], expected)


@needs_compiler
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_emulated_flow_that_is_not_finite_is_refused(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    flow = np.zeros((3, 2, 4, 5), np.float32)
    flow[1, 1, 2, 3] = wrong
    with pytest.raises(InvalidParameterError, match=r"flow must be finite to be quantised, .* in pair 1"):
        quantise(flow, "i8")


@needs_compiler
def test_emulated_codes_of_a_batch_are_those_of_its_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    frames = np.random.default_rng(0).integers(0, 256, (3, 17, 20), dtype=np.uint8)
    solver = cuda.load(TVL1Params(warps=1, iterations=10), tile=TileShape(columns=1, rows=2, warps=8, halo=5))
    pairs = [[0, 1], [1, 2]]
    made = solver.codes_batch(frames, pairs, code="i8")
    assert set(made.seconds) == {"upload", "solve", "download"}
    assert 0 < made.seconds["upload"] < made.seconds["solve"] > made.seconds["download"] > 0
    for flow, codes, scale in zip(solver.flow_batch(frames, pairs), made.codes, made.i8_scales, strict=True):
        expected, expected_scale = quantize_i8(flow)
        np.testing.assert_array_equal(codes, expected)
        assert scale == expected_scale


@pytest.mark.parametrize(
    ("code", "bound_px", "words"),
    [
        ("i4", None, r"Invalid code \('i4'\)\. .* are i8, i16, u8"),
        ("u8", None, "bound_px must be finite and > 0, got None"),
        ("u8", 0.0, "bound_px must be finite and > 0, got 0.0"),
        ("i8", 20.0, "bound_px is for code 'u8' alone, got 20.0 with 'i8'"),
    ],
)
def test_codes_that_there_are_not_are_refused(code: str, bound_px: float | None, words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        check_code(code, bound_px)
