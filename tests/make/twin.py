"""The CPU engine against the float64 twin."""

from __future__ import annotations

import shutil

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1 import cpu
from flowkit.tvl1.params import TVL1Params
from flowkit.tvl1.reference.solver import tvl1_flow

ISAS = ("avx512", "avx2", "baseline")
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

# px: single precision in some 500 iterations, amplified where the data term is weak.
AGREEMENT_PX = 5e-3
# px. The engine halves a window's range until it is as narrow as 1/128 px, so that of values nearer
# to each other than that it may take another than the twin.
FILTERED_PX = 1 / 128
# Fraction of the pixels that may be farther away: where half of the weights is met within a
# rounding, or the spread is the threshold within one, another value is taken, or none.
FEW = 0.01


def assert_agrees_with_twin(
    I0: NDArray[np.generic],
    I1: NDArray[np.generic],
    params: TVL1Params,
    isa: str | None = None,
    tolerance_px: float = AGREEMENT_PX,
) -> None:
    """Assert that flow and iterations are the twin's."""
    twin = tvl1_flow(I0, I1, params=params)
    frames = np.stack([I0, I1])
    flow, iterations = cpu.load(params, isa=isa).flow_and_iterations(frames, [[0, 1]])
    assert [tuple(level) for level in iterations[0]] == [level.iterations for level in twin.trace.levels]
    difference = np.abs(flow[0] - twin.flow)
    assert difference.max() < tolerance_px
    assert difference.mean() < 0.01 * tolerance_px


def assert_nearly_agrees(
    I0: NDArray[np.generic], I1: NDArray[np.generic], params: TVL1Params, isa: str | None = None
) -> None:
    """Compare with the twin where the flow was filtered: near it but for a few pixels."""
    twin = tvl1_flow(I0, I1, params=params)
    flow, iterations = cpu.load(params, isa=isa).flow_and_iterations(np.stack([I0, I1]), [[0, 1]])
    assert [tuple(level) for level in iterations[0]] == [level.iterations for level in twin.trace.levels]
    difference = np.abs(flow[0] - twin.flow)
    assert np.mean(difference > FILTERED_PX + AGREEMENT_PX) < FEW
    assert difference.mean() < FILTERED_PX
