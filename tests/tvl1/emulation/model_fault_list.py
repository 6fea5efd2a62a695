"""The faults of what the published model does not have: bounds and start of q, the weighted median."""

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
        "own_bounds, change, to_measure);\n  store",
        "own_bounds + kTileWidth, change, to_measure);\n  store",
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

BLOCKS = (
    _fault(*("blocks", "blocks.cuh", "blocks of the first pair"), "changes + pair * blocks", "changes"),
    _fault(
        *("blocks", "tile.cu", "still pixels go on"),
        "if (is_still(settled, x + j, y + r)) term.w = -1.f;",
        "",
    ),
    _fault(
        *("blocks", "level.cu", "still pixels linearised"),
        "terms[pair * n + i] = {0.f, 0.f, 0.f, -1.f};\n    return;",
        "",
    ),
    _fault(
        *("blocks", "core.cuh", "q of still pixels goes on"),
        "    if (kSkipping && keeps(data[j * kDataStride])) continue;\n",
        "",
    ),
    _fault(
        *("blocks cluster", "cluster.cu", "blocks of the warp at hand for those of the one before"),
        "own - pairs",
        "own",
    ),
)

CARRIED = (
    _fault(
        *("carried", "level.cu", "q not written at the level's end"),
        "  if (dual == nullptr) return;\n",
        "  return;\n",
    ),
    _fault(
        *("carried", "level.cu", "q of the other buffer written"),
        "q[((int64)states[pair].q_buffer * pairs",
        "q[((int64)(states[pair].q_buffer ^ 1) * pairs",
    ),
    _fault(
        *("carried", "level.cu", "q of the first pair at the level's start"),
        "dual + 4 * pair * n + i;\n    dual_start",
        "dual + i;\n    dual_start",
    ),
    _fault(
        *("carried", "level.cu", "components of q exchanged"),
        "plane[0], plane[n], plane[2 * n], plane[3 * n]",
        "plane[0], plane[2 * n], plane[n], plane[3 * n]",
    ),
    _fault(
        *("carried", "pyramid.cu", "last column not zero"),
        "(component == 0 ? last_column :",
        "(component == 0 ? false :",
    ),
    _fault(
        *("carried", "pyramid.cu", "last row not zero"),
        "? last_column : last_row);",
        "? last_column : false);",
    ),
    _fault(*("carried", "pyramid.cu", "dual variable scaled"), "k == 0 ? gain * sum : sum", "gain * sum"),
    _fault(
        *("carried cluster", "cluster.cu", "q not written at a cluster's end"),
        "if (!kCarried || dual == nullptr) continue;",
        "continue;",
    ),
    _fault(
        *("carried cluster", "cluster.cu", "a component of q not written"),
        "      dual[3 * n + pixel] = patch.q22[r][j];\n",
        "",
    ),
    _fault(
        *("carried cluster", "cluster.cu", "q of a cluster starts from zero"),
        "tense = kCarried && inside && dual != nullptr",
        "tense = false",
    ),
    _fault(
        *("carried cluster", "cluster.cu", "rows of q above start from zero"),
        "if (kCarried && dual != nullptr && x < at.width",
        "if (kCarried && dual != nullptr && x < 0",
    ),
    _fault(
        *("carried cluster", "cluster.cu", "rows of q above one too low"),
        "(at.rank * kWarps + i / kRowPixels) * kRows - 1;",
        "(at.rank * kWarps + i / kRowPixels) * kRows;",
    ),
    _fault(
        *("carried cluster", "cluster.cu", "columns of q above in the order of the frame"),
        "x = of_row % kWarpSize * kColumns + of_row / kWarpSize;",
        "x = of_row;",
    ),
    _fault(
        *("warps of clusters", "cluster.cu", "ended level goes on with the next launch"),
        "  if (kCarried && has_ended(iterations, first_warp, options)) return;\n",
        "",
    ),
    _fault(
        *("warps of clusters", "cluster.cu", "every launch does the first warp"),
        "for (int warp = first_warp; warp < end_warp",
        "for (int warp = 0; warp < end_warp",
    ),
    _fault(
        *("warps of clusters", "cluster.cu", "iterations of a warp counted as the first's"),
        "iterations[warp] = done;",
        "iterations[0] = done;",
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
        *("weighted level", "weighted_median.cu", "spread within five pixels of a window of seven"),
        "r = -kRadius; r <= kRadius; ++r",
        "r = -2; r <= 2; ++r",
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
