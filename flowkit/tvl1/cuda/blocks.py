"""Blocks of a level that are still (kernels/blocks.cuh): what the host says of them."""

from __future__ import annotations

from flowkit.tvl1.params import TVL1Params

BLOCK_SIDE_PX = 16
"""kBlockSide."""

CHANGE_UNITS = 2.0**22
"""kChangeUnits, of a px^2."""


def skips_blocks(params: TVL1Params) -> bool:
    """Return whether still blocks are looked for (twin: `reference.solver.solve_warp`)."""
    tested = params.epsilon > 0 and 0 < params.check_first < params.iterations
    return params.block_epsilon > 0 and tested


def still_units(params: TVL1Params) -> float:
    """Return the units a pixel that a still block changes at most."""
    return params.block_epsilon**2 * CHANGE_UNITS


def block_count(size: tuple[int, int]) -> int:
    """Return the number of blocks of a level of (height, width) px."""
    height, width = size
    return -(-height // BLOCK_SIDE_PX) * -(-width // BLOCK_SIDE_PX)
