"""Engines without codes of their own, quantised on the host, and the checks of every engine's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from flowkit.errors import InvalidParameterError
from flowkit.store.codecs.scaled import FIELD_SCALE
from flowkit.tvl1.backend import choose_backend
from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.engine import FlowCodes, HostCodes, Solver, check_batch, check_pair, codes_solver
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


@pytest.mark.parametrize("code", ["q8", "i8", "i16", "u8"])
def test_host_codes_are_the_quantisers(code: str) -> None:
    got, quantizer = made(code), rules(bound_px=20.0)[code]
    assert got.codes.dtype == {"q8": np.int8, "i8": np.int8, "i16": np.int16, "u8": np.uint8}[code]
    assert got.largest_px.tolist() == [float(np.abs(flow).max()) for flow in flows()]
    for flow, field in zip(flows(), got.fields(), strict=True):
        expected = quantizer.quantize(flow)
        np.testing.assert_array_equal(field.codes, expected.codes)
        assert field[1:] == expected[1:]


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


GREY = np.zeros((4, 5), np.uint8)


def test_a_pair_passes_unchanged() -> None:
    first, second = check_pair(GREY, GREY.astype(np.float64))
    assert first is GREY
    assert second.dtype == np.float64


@pytest.mark.parametrize(
    ("I0", "I1", "message"),
    [
        (GREY, GREY[:, :4], r"one shape, got \(4, 5\) and \(4, 4\)"),
        (
            np.zeros((4, 5, 3), np.uint8),
            GREY,
            r"uint8 or floating \(H, W\), got uint8 \(4, 5, 3\); turn colour",
        ),
        (GREY[:0], GREY[:0], r"non-empty"),
        (GREY.astype(np.int32), GREY, r"uint8 or floating \(H, W\), got int32"),
        (GREY, np.full((4, 5), np.nan, np.float32), r"I1 must hold finite .*got nan"),
        (GREY, np.full((4, 5), np.inf), r"\[0, 255\], got inf"),
        (GREY - 1.0, GREY, r"\[0, 255\], got -1"),
        (GREY + 256.0, GREY, r"\[0, 255\], got 256"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(I0: Any, I1: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        check_pair(I0, I1)


def test_a_batch_becomes_contiguous_float32_and_int32() -> None:
    frames, pairs = check_batch(np.zeros((3, 4, 10))[:, :, ::2], [[0, 1], [2, 0]])
    assert frames.dtype == np.float32
    assert frames.flags.c_contiguous
    assert pairs.dtype == np.int32
    assert pairs.tolist() == [[0, 1], [2, 0]]


def test_bytes_stay_bytes() -> None:
    assert check_batch(GREY[None], [[0, 0]])[0].dtype == np.uint8


def test_no_pairs_is_a_batch() -> None:
    assert check_batch(GREY[None], [])[1].shape == (0, 2)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[0, 1]], r"indices in \[0, 1\), got 0 to 1"),
        ([[-1, 0]], r"got -1 to 0"),
        ([[0, 0, 0]], r"integer \(m, 2\), got int64 \(1, 3\)"),
        ([[0.0, 0.0]], r"integer \(m, 2\), got float64"),
    ],
)
def test_pairs_without_frames_are_refused(pairs: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        check_batch(GREY[None], pairs)
