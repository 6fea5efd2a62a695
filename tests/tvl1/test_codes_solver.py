"""Engines without codes of their own: the host's quantisers behind one method."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError
from flowkit.quantize import i8_scale, quantize_i8, quantize_i16, quantize_u8
from flowkit.tvl1.backend import Solver, choose_backend
from flowkit.tvl1.codes import CODE_DTYPES, Code, FlowCodes
from flowkit.tvl1.codes_solver import HostCodes, codes_solver
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.params import TVL1Params

FRAMES, PAIRS = np.zeros((2, 9, 11), np.uint8), np.array([[0, 1], [1, 0], [0, 0]])


class Given:
    """An engine whose flow is given."""

    name = device = version = "given"
    deviations: tuple[str, ...] = ()
    pairs_per_call = 4

    def __init__(self, flow: NDArray[np.float32]) -> None:
        self._flow = flow

    def flow_batch(self, frames: ArrayLike, pairs: ArrayLike, *, threads: int = 1) -> NDArray[np.float32]:
        return self._flow


def flows() -> NDArray[np.float32]:
    size = np.array([1, 30, 700], np.float32)[:, None, None, None]
    return (np.random.default_rng(0).normal(size=(3, 2, 9, 11)) * size).astype(np.float32)


def made(code: Code) -> FlowCodes:
    engine = codes_solver(Given(flows()))
    return engine.codes_batch(FRAMES, PAIRS, code=code, bound_px=20.0 if code == "u8" else None)


@pytest.mark.parametrize("code", ["i8", "i16", "u8"])
def test_host_codes_are_the_quantisers(code: Code) -> None:
    got = made(code)
    assert got.codes.dtype == CODE_DTYPES[code]
    assert got.largest_px.tolist() == [float(np.abs(flow).max()) for flow in flows()]
    for flow, codes, clipped in zip(flows(), got.codes, got.clipped, strict=True):
        expected: tuple[NDArray[np.generic], float]
        if code == "i8":
            expected = quantize_i8(flow)[0], 0
        else:
            expected = quantize_i16(flow) if code == "i16" else quantize_u8(flow, bound_px=20.0)
        np.testing.assert_array_equal(codes, expected[0])
        assert clipped == expected[1]


def test_scales_are_those_of_the_largest_components() -> None:
    assert made("i8").i8_scales.tolist() == [i8_scale(float(np.abs(flow).max())) for flow in flows()]


def test_stages_that_the_host_cannot_tell_apart_are_absent() -> None:
    assert set(made("i8").seconds) == {"solve", "encode"}


def test_an_engine_that_quantises_is_asked_itself() -> None:
    solver = cuda.CudaSolver(params=TVL1Params())
    assert codes_solver(solver) is solver
    assert isinstance(codes_solver(choose_backend("reference").solver), HostCodes)


def test_a_solver_is_not_asked_for_its_device_to_find_out() -> None:
    class Shy(Given):
        @property
        def device(self) -> str:  # type: ignore[override]
            raise AssertionError("opens a GPU")

    solver: Solver = Shy(flows())
    assert isinstance(codes_solver(solver), HostCodes)


def test_codes_and_flow_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="bound_px must be finite and > 0, got None"):
        codes_solver(Given(flows())).codes_batch(FRAMES, PAIRS, code="u8")
    with pytest.raises(InvalidParameterError, match="flow must be finite"):
        codes_solver(Given(flows() * np.float32(np.nan))).codes_batch(FRAMES, PAIRS, code="i8")
