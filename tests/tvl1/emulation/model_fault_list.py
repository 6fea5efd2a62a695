"""The faults of what the published model does not have: bounds of the dual variable, the weighted median."""

from __future__ import annotations

from tests.tvl1.emulation.faults import fault as _fault

EDGES = (
    _fault(
        *("edges", "core.cuh", "dual variable not projected"),
        "* reciprocal_root(fmaf(x, x, y * y)), 1.f)",
        "* reciprocal_root(fmaf(x, x, y * y)), 2.f)",
    ),
    _fault(*("edges", "core.cuh", "bound of the row's first column"), "bounds[j * kWarpSize]", "bounds[0]"),
    _fault(
        *("edges", "tile.cu", "bounds of another row"),
        "own_bounds, change);\n  store",
        "own_bounds + kTileWidth, change);\n  store",
    ),
    _fault(*("edges", "tile.cu", "bounds of the first pair"), "bounds + pair * n, x, y", "bounds, x, y"),
    _fault(
        *("edges", "pyramid.cu", "edges of the second frame"),
        "planes[pair].x * n;\n  const float gx",
        "planes[pair].y * n;\n  const float gx",
    ),
    _fault(*("edges", "pyramid.cu", "edges not halved"), "0.5f * square_root", "square_root"),
    _fault(
        *("edges cluster", "cluster.cu", "bounds of another row in a cluster"),
        "shared.bounds + (at.warp * kRows + r) * kRowPixels",
        "shared.bounds + at.warp * kRows * kRowPixels",
    ),
    _fault(
        *("edges cluster", "cluster.cu", "bounds not loaded"),
        "  if constexpr (kWeighted) load_bounds(shared, bounds + pair * n, at);\n",
        "",
    ),
)

WEIGHTED_MEDIAN = (
    _fault(
        *("weighted level", "weighted_median.cu", "no barrier after the tile"),
        "width, height);\n  __syncthreads();\n\n  const int column",
        "width, height);\n\n  const int column",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "no barrier after the list"),
        "  }\n  __syncthreads();\n\n  if ((int)threadIdx.x",
        "  }\n\n  if ((int)threadIdx.x",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "neighbours outside weigh as the edge"),
        "inside ? I0[at] : kOutside",
        "I0[at]",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "spread of the first component alone"),
        "fmaxf(spread_about(u1 + slot), spread_about(u2 + slot))",
        "spread_about(u1 + slot)",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "spread within three pixels"),
        "kSpreadRadius = 2;",
        "kSpreadRadius = 1;",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "pixels that stay not written"),
        "      kept[0] = u1[slot];\n",
        "",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "values left not tried"),
        "  while (weight_up_to(median, values, weights) < half) median = least_above(median, values);\n",
        "",
    ),
    _fault(
        *("weighted level", "weighted_median.cu", "own pixel instead of the listed one"),
        "own_row = own / kTileWidth",
        "own_row = (int)threadIdx.x / kTileWidth",
    ),
    _fault(
        *("weighted median", "weighted_median.cu", "likeness left out"),
        "{spread, per_grey2, per_px2});\n  if (last_block",
        "{spread, 0.f, per_px2});\n  if (last_block",
    ),
    _fault(
        *("weighted median", "weighted_median.cu", "still pairs filtered after each warp"),
        "    if (state.ended == kEndedNow) state.ended = kEndedBefore;\n",
        "",
    ),
    _fault(
        *("weighted median", "weighted_median.cu", "last warp of a level not filtered"),
        "state.ended == kEndedBefore) return;",
        "state.ended != kGoesOn) return;",
    ),
    _fault(
        *("weighted median", "weighted_median.cu", "filtered flow not turned over"),
        "    state.u_buffer ^= 1;\n    state.arrived = 0;\n    if",
        "    state.arrived = 0;\n    if",
    ),
)
