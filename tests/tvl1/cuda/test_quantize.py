from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import (
    FieldScale,
    FixedStep,
    QuantileScale,
    Quantized,
    Quantizer,
)
from flowkit.store.codecs.scaled import FIELD_SCALE, FIXED_STEP, QUANTILE_SCALE
from flowkit.tvl1.cuda import device as cuda_device
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.plan import TileShape
from flowkit.tvl1.cuda.quantize import checked_largest, enqueue_codes, has_kernel
from flowkit.tvl1.engine import FlowCodes
from flowkit.tvl1.params import TVL1Params
from tests.make.codes import check_equal, extreme_flows, rules
from tests.tvl1.emulation.emulator import COMPILER
from tests.tvl1.emulation.fake_cupy import FakeGpu, install
from tests.tvl1.emulation.faults import SCHEDULES, Schedule

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here")


def quantise(flow: NDArray[np.float32], quantizer: Quantizer) -> FlowCodes:
    device = cuda_device.open_device(0)
    made = enqueue_codes(device, device.upload(flow), quantizer)
    codes, scales, largest, clipped = (array.get() for array in made)
    return FlowCodes(codes=codes, scales=scales, largest_px=checked_largest(largest), clipped=clipped)


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
@pytest.mark.parametrize("code", ["q8", "i8", "i16", "u8"])
def test_emulated_codes_are_the_hosts_bit_for_bit(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    quantizer = rules(bound_px=20.0)[code]
    made = quantise(flows(), quantizer)
    check_equal(made, flows(), quantizer)
    assert not (code == "i8" and made.clipped.any())


@needs_compiler
def test_emulated_scales_are_the_hosts_next_to_every_power_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    edges = np.float32(15.875) * np.float32(2) ** np.arange(40, dtype=np.float32)
    largest = np.concatenate(
        [edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1e38))]
    )
    flow = np.zeros((len(largest), 2, 1, 1), np.float32)
    flow[:, 1, 0, 0] = -largest
    made = quantise(flow, FIELD_SCALE)
    np.testing.assert_array_equal(made.largest_px, largest)
    expected = [round(-float(px) / FIELD_SCALE.scale_px(float(px))) for px in largest]
    np.testing.assert_array_equal(made.codes[:, 1, 0, 0], expected)


@needs_compiler
@pytest.mark.parametrize("quantizer", [FIELD_SCALE, QUANTILE_SCALE])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_emulated_flow_that_is_not_finite_is_refused(
    wrong: float, quantizer: Quantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    flow = np.zeros((3, 2, 4, 5), np.float32)
    flow[1, 1, 2, 3] = wrong
    with pytest.raises(InvalidParameterError, match=r"flow must be finite to be quantised, .* in pair 1"):
        quantise(flow, quantizer)


@needs_compiler
def test_emulated_codes_of_a_batch_are_those_of_its_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    frames = np.random.default_rng(0).integers(0, 256, (3, 17, 20), dtype=np.uint8)
    solver = cuda.load(TVL1Params(warps=1, iterations=10), tile=TileShape(columns=1, rows=2, warps=8, halo=5))
    pairs = [[0, 1], [1, 2]]
    made = solver.codes_batch(frames, pairs, quantizer=FIELD_SCALE)
    assert set(made.seconds) == {"upload", "solve", "download"}
    assert 0 < made.seconds["upload"] < made.seconds["solve"] > made.seconds["download"] > 0
    check_equal(made, solver.flow_batch(frames, pairs), FIELD_SCALE)


@needs_compiler
@pytest.mark.parametrize("dtype", ["i1", "<i2", "<i4"])
def test_emulated_rules_hold_for_codes_of_other_sizes_and_steps(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu())
    kind = np.dtype(dtype)
    for quantizer in (
        FieldScale(dtype=kind, unit_px=1 / 32, limit=100),
        FixedStep(dtype=kind, step_px=0.3, limit=90),
        QuantileScale(dtype=kind, unit_px=1 / 32, limit=100, quantile_code=90, per_mille=900),
    ):
        check_equal(quantise(flows(), quantizer), flows(), quantizer)


@needs_compiler
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (23, 22), (31, 65)])
def test_emulated_quantiles_are_the_hosts_whatever_the_field(
    size: tuple[int, int], schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeGpu(schedule=schedule))
    flow = extreme_flows(np.random.default_rng(0), size)
    check_equal(quantise(flow, QUANTILE_SCALE), flow, QUANTILE_SCALE)


class Doubled(FixedStep):
    """A rule of somebody else's."""

    def quantize(self, flow: NDArray[np.float32]) -> Quantized:
        return FixedStep.quantize(self, 2 * flow)


@needs_compiler
def test_a_rule_without_a_kernel_is_followed_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeGpu())
    quantizer = Doubled(dtype=np.dtype("<i2"), step_px=1 / 64, limit=32767)
    assert not has_kernel(quantizer)
    frames = np.random.default_rng(0).integers(0, 256, (2, 17, 20), dtype=np.uint8)
    solver = cuda.load(TVL1Params(warps=1, iterations=10), tile=TileShape(columns=1, rows=2, warps=8, halo=5))
    (flow,) = solver.flow_batch(frames, [[0, 1]])
    made = solver.codes_batch(frames, [[0, 1]], quantizer=quantizer)
    np.testing.assert_array_equal(made.codes[0], FIXED_STEP.quantize(2 * flow).codes)
