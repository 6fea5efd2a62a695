"""Pairs, parameters and a tile that an emulated GPU solves quickly; the whole model's parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowkit.tvl1.cuda import solver as cuda
from flowkit.tvl1.cuda.plan import TileShape
from flowkit.tvl1.params import PRESETS, TVL1Params

# 32x16 px, so that small frames take several tiles.
SMALL_TILE = TileShape(columns=1, rows=2, warps=8, halo=5)

QUICK = TVL1Params(nscales=2, warps=2, iterations=20)

# The whole model, filtered after levels and after warps.
FAST_MODEL, ACCURATE_MODEL = PRESETS["fast"], PRESETS["accurate"]

EQUAL_CODES = {False: 0.995, True: 0.98}
"""Least share of codes that the CPU engine's are equal to, without and with a weighted median.

Without one, a rounding may turn a code that lies at a half. The CPU engine's median is within 1/128 px of
the least value that the weights reach half their sum at, and so .002 px from ours in the mean: of codes of
1/8 px these are 1.6 %.
"""

PAIRS = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0], [2, 2]])


def solve(
    frames: NDArray[np.generic],
    pairs: NDArray[np.int_],
    params: TVL1Params = QUICK,
    memory_bytes: int | None = None,
) -> NDArray[np.float32]:
    """Return the flow of pairs, by tiles of SMALL_TILE."""
    solver = cuda.load(params, tile=SMALL_TILE, memory_bytes=memory_bytes, method="tile")
    return solver.flow_batch(frames, pairs)
