"""Engines without codes of their own: the host's quantisers behind one method."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.engine import FlowCodes, HostCodes, Solver, codes_solver
from flowkit.tvl1.params import TVL1Params
from tests.make.codes import rules

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


def made(code: str) -> FlowCodes:
    return codes_solver(Given(flows())).codes_batch(FRAMES, PAIRS, quantizer=rules(bound_px=20.0)[code])


@pytest.mark.parametrize("code", ["i8", "i16", "u8"])
def test_host_codes_are_the_quantisers(code: str) -> None:
    got, quantizer = made(code), rules(bound_px=20.0)[code]
    assert got.codes.dtype == {"i8": np.int8, "i16": np.int16, "u8": np.uint8}[code]
    assert got.largest_px.tolist() == [float(np.abs(flow).max()) for flow in flows()]
    for flow, codes, clipped in zip(flows(), got.codes, got.clipped, strict=True):
        expected = quantizer.quantize(flow)
        np.testing.assert_array_equal(codes, expected.codes)
        assert clipped == expected.clipped


def test_stages_that_the_host_cannot_distinguish_are_absent() -> None:
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


def test_flow_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="flow must be finite"):
        codes_solver(Given(flows() * np.float32(np.nan))).codes_batch(FRAMES, PAIRS, quantizer=FIELD_SCALE)
