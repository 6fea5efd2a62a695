"""The faults: removed barriers, wrong parities, halos off by one, wrong neighbours, wrong buffers.

Not among them, since the emulation cannot show them: memory fences (its memory is sequentially
consistent), and barriers that another one makes redundant there but not on a GPU.
"""

from __future__ import annotations

from tests.tvl1.emulation.faults import fault as _fault
from tests.tvl1.emulation.model_fault_list import BLOCKS, CARRIED, EDGES, WEIGHTED_MEDIAN

TILE = (
    _fault(
        *("tile", "tile.cu", "no barrier after the rows of u"),
        "  publish(u_rows, patch.u1[0], patch.u2[0]);\n  __syncthreads();",
        "  publish(u_rows, patch.u1[0], patch.u2[0]);",
    ),
    _fault(
        *("tile", "tile.cu", "no barrier after the rows of q"),
        "patch.q22[kRows - 1]);\n  __syncthreads();\n}",
        "patch.q22[kRows - 1]);\n}",
    ),
    _fault(
        *("tile", "tile.cu", "no barrier before the first iteration"),
        "__syncthreads();\n\n  const Steps",
        "\n  const Steps",
    ),
    _fault(
        *("tile", "tile.cu", "halo one pixel short on the left"),
        "index == 0 ? 0 : index * stride + halo",
        "index == 0 ? 0 : index * stride + halo - 1",
    ),
    _fault(
        *("tile", "tile.cu", "halo one pixel short on the right"),
        "(index + 1) * stride + halo;",
        "(index + 1) * stride + halo + 1;",
    ),
    _fault(
        *("tile", "tile.cu", "rows of u read from the own slot"),
        "u_rows + kTileWidth, width - 1 - x",
        "u_rows, width - 1 - x",
    ),
    _fault(
        *("tile", "tile.cu", "rows of q not published at the start"),
        "  publish(q_rows + kTileWidth, patch.q12[kRows - 1], patch.q22[kRows - 1]);\n  __syncthreads();\n\n",
        "  __syncthreads();\n\n",
    ),
    _fault(
        *("tile", "tile.cu", "no zeros above the first row"),
        "if (warp == 0) publish(q_rows, zeros, zeros);",
        "",
    ),
    _fault(
        *("tile", "tile.cu", "u written where it is read"),
        "store_patch(patch, u + ((int64)(u_now ^ 1)",
        "store_patch(patch, u + ((int64)(u_now)",
    ),
    _fault(*("tile", "tile.cu", "q not turned over"), "  state.q_buffer ^= 1;\n", ""),
    _fault(
        *("tile", "tile.cu", "arrivals not reset"), "  state.arrived = 0;\n  *iterations", "  *iterations"
    ),
    _fault(
        *("tile", "tile.cu", "halo counted in the change"),
        "if (!owns(down, y + r)) counted.to = counted.from;",
        "",
    ),
    _fault(
        *("tile", "tile.cu", "no barrier in the block's sum"),
        "= sum;\n  __syncthreads();",
        "= sum;",
    ),
    _fault(
        *("change", "tile.cu", "last warp missing in the block's sum"),
        "w < kWarps; ++w) total",
        "w < kWarps - 1; ++w) total",
    ),
    _fault(
        *("tile", "state.cuh", "first block taken for the last"),
        "before[0] == blocks - 1",
        "before[0] == 0",
    ),
    _fault(
        *("tile", "state.cuh", "no barrier after the count"),
        "atomicAdd(&state.arrived, 1);\n  __syncthreads();",
        "atomicAdd(&state.arrived, 1);",
    ),
    _fault(
        *("tile", "level.cu", "linearised around the other buffer"),
        "float2 flow = u[((int64)states[pair].u_buffer",
        "float2 flow = u[((int64)(states[pair].u_buffer ^ 1)",
    ),
    _fault(
        *("tile", "level.cu", "flow read from the first buffer"),
        "float2 value = u[((int64)states[pair].u_buffer",
        "float2 value = u[((int64)0",
    ),
    _fault(*("tile", "level.cu", "q not zeroed"), "  q[pair * n + i] = dual_start;\n", ""),
    _fault(
        *("tile", "level.cu", "counter of active pairs one short"),
        "counts->active = counts->going;",
        "counts->active = counts->going - 1;",
    ),
    _fault(*("still", "tile.cu", "level ended by a later test"), "if (test == kEndsLevel) {", "{"),
    _fault(
        *("still", "level.cu", "level that ended goes on"),
        "  if (states[pair].ended != kGoesOn) return;\n",
        "",
    ),
    _fault(
        *("still", "level.cu", "level that ended stays so on the next"),
        "fresh = {0, 0, 0, 0, 0};",
        "fresh = {0, 0, 0, 0, states[pair].ended};",
    ),
    _fault(
        *("tile", "pyramid.cu", "vertical taps along the row"),
        "step = vertical ? width : 1",
        "step = vertical ? new_width + 1 : 1",
    ),
    _fault(
        *("tile", "pyramid.cu", "planes of the old size"),
        "result[plane * n + at]",
        "result[plane * height * width + at]",
    ),
)

CORE = (
    _fault(
        *("tile", "core.cuh", "q of another row at the left edge"), "left11 = left_edge ? 0.f : left11;", ""
    ),
    _fault(
        *("tile", "core.cuh", "last row's difference not zero"),
        "const float y1 = last_row ? 0.f : down.x - u1",
        "const float y1 = down.x - u1",
    ),
    _fault(*("tile", "core.cuh", "last column one too early"), "j == last_column;", "j == last_column - 1;"),
    _fault(
        *("tile", "core.cuh", "right neighbour two lanes away"),
        "__shfl_down_sync(kAllLanes, patch.u2[row][0], 1)",
        "__shfl_down_sync(kAllLanes, patch.u2[row][0], 2)",
    ),
    _fault(
        *("tile", "core.cuh", "row above is the row itself"), "row > 0 ? row - 1 : 0", "row > 0 ? row : 0"
    ),
    _fault(*("tile", "core.cuh", "one column too many in the change"), "j < counted.to;", "j <= counted.to;"),
    _fault(
        *("tile", "core.cuh", "limit without its lower side"),
        "fminf(fmaxf(rho, -data.w), data.w)",
        "fminf(rho, data.w)",
    ),
)

LINEARISE = (
    _fault(
        *("tile", "linearise.cuh", "neighbours one column too far left"),
        "min(max(left - 1 - kReach, 0), side - kNeighbours)",
        "min(max(left - 2 - kReach, 0), side - kNeighbours)",
    ),
    _fault(
        *("tile", "linearise.cuh", "neighbours beyond the right edge"),
        "min(max(left - 1 - kReach, 0), side - kNeighbours)",
        "min(max(left - 1 - kReach, 0), side - kNeighbours + 1)",
    ),
    _fault(
        *("gradient", "linearise.cuh", "outer taps of the wrong sign"),
        "fmaf(8.f * near - far, axis",
        "fmaf(8.f * near + far, axis",
    ),
    _fault(
        *("gradient", "linearise.cuh", "edge of the outer taps not repeated"),
        "(max(i - 2, 0) == k)",
        "(i - 2 == k)",
    ),
    _fault(
        *("gradient", "linearise.cuh", "outer taps of a neighbour too few"),
        "(min(i + 2, kLast) == k)",
        "(min(i + 2, kLast - 1) == k)",
    ),
    _fault(
        *("tile", "linearise.cuh", "border taps one row too low"),
        "clamp_index(left - 1 + c, side) == axis.first + k",
        "clamp_index(left + c, side) == axis.first + k",
    ),
    _fault(
        *("tile", "linearise.cuh", "difference at the edge without the edge"),
        "k == 0 ? -before - after",
        "k == 0 ? -after",
    ),
    _fault(
        *("median", "linearise.cuh", "data term outside the frame"),
        "if (!options.clamp && !in_frame) return data;",
        "",
    ),
    _fault(
        *("median", "level.cu", "median not turned over"),
        "    state.u_buffer ^= 1;\n    state.arrived = 0;",
        "    state.arrived = 0;",
    ),
    _fault(
        *("median", "level.cu", "median of pairs that have stopped"),
        "  if (!state.active) return;\n  const int now",
        "  const int now",
    ),
    _fault(
        *("median", "median.cuh", "median of 24 values"),
        "waiting[14 - kCount]",
        "waiting[kCount > 4 ? 14 - kCount : 9]",
    ),
    _fault(*("median", "pyramid.cu", "range of another pair"), "ranges[plane / 2].x", "ranges[0].x"),
    _fault(
        *("median", "pyramid.cu", "lowest value of the first frame alone"),
        "fminf(low, fminf(a, b))",
        "fminf(low, a)",
    ),
)

CLUSTER = (
    _fault(
        *("cluster", "cluster.cu", "q not waited for"),
        "    if (r == 0 && q_pending) wait(&shared.q_ready[at.warp], parity ^ 1);\n",
        "",
    ),
    _fault(
        *("cluster", "cluster.cu", "u not waited for"),
        "    if (r == kRows - 1) wait(&shared.u_ready[at.warp], parity);\n",
        "",
    ),
    _fault(
        *("cluster", "cluster.cu", "wrong parity for u"),
        "wait(&shared.u_ready[at.warp], parity);",
        "wait(&shared.u_ready[at.warp], parity ^ 1);",
    ),
    _fault(
        *("cluster", "cluster.cu", "wrong parity for q"),
        "q_pending) wait(&shared.q_ready[at.warp], parity ^ 1);",
        "q_pending) wait(&shared.q_ready[at.warp], parity);",
    ),
    _fault(*("cluster", "cluster.cu", "parity not turned"), "    phases.parity ^= 1;\n", ""),
    _fault(
        *("cluster", "cluster.cu", "fewer bytes awaited than sent"),
        "arrive_expecting(own, kRowBytes);",
        "arrive_expecting(own, kRowBytes - 8);",
    ),
    _fault(
        *("cluster", "cluster.cu", "bytes from the neighbour not awaited"),
        "arrive_expecting(own, kRowBytes);",
        "arrive(own);",
    ),
    _fault(
        *("cluster", "cluster.cu", "sums of one test over those of another"),
        "shared.changes[test & 1]",
        "shared.changes[0]",
    ),
    _fault(
        *("cluster", "cluster.cu", "sums not waited for"),
        "  wait(ready, test >> 1 & 1);\n",
        "",
    ),
    _fault(
        *("cluster", "cluster.cu", "wrong parity for the sums"),
        "wait(ready, test >> 1 & 1);",
        "wait(ready, test & 1);",
    ),
    _fault(
        *("cluster", "cluster.cu", "one barrier for the sums of all tests"),
        "&shared.changes_ready[test & 1]",
        "&shared.changes_ready[0]",
    ),
    _fault(
        *("cluster", "cluster.cu", "sums sent to one block fewer"),
        "if (at.lane < kBlocks) {",
        "if (at.lane < kBlocks - 1) {",
    ),
    _fault(
        *("cluster", "cluster.cu", "last iteration's q not waited for"),
        "  wait(&shared.q_ready[at.warp], phases.parity ^ 1);\n  return done;\n}",
        "  return done;\n}",
    ),
    _fault(
        *("cluster", "cluster.cu", "start without a cluster barrier"),
        "  }\n  synchronize_cluster();\n}",
        "  }\n}",
    ),
    _fault(
        *("cluster", "cluster.cu", "warp arrives before its lanes have written"),
        "  __syncwarp();\n  if (lane == 0) arrive(reader);",
        "  if (lane == 0) arrive(reader);",
    ),
    _fault(
        *("cluster", "cluster.cu", "linearised before all lanes have staged u"),
        "  __syncwarp();\n  for (int i = at.lane",
        "  for (int i = at.lane",
    ),
    _fault(
        *("cluster", "cluster.cu", "u sent to the neighbour's first slot"),
        "(above ? kWarps : at.warp) * kRowPixels",
        "(above ? 0 : at.warp) * kRowPixels",
    ),
    _fault(
        *("cluster", "cluster.cu", "q sent to the neighbour's second slot"),
        "(below ? 0 : at.warp + 1) * kRowPixels",
        "(below ? 1 : at.warp + 1) * kRowPixels",
    ),
    _fault(
        *("cluster", "cluster.cu", "the last warp has no barrier"),
        "if (threadIdx.x < kWarps) {",
        "if (threadIdx.x < kWarps - 1) {",
    ),
    _fault(
        *("cluster", "cluster.cu", "the row of u announced to a warp too far"),
        "arrive_at_reader(shared.u_ready + at.warp - 1",
        "arrive_at_reader(shared.u_ready + at.warp",
    ),
    _fault(
        *("cluster", "cluster.cu", "a row that no warp writes announced to another reader"),
        "arrive_as_reader(&shared.q_ready[at.warp]",
        "arrive_as_reader(&shared.q_ready[at.warp + 1]",
    ),
    _fault(
        *("cluster", "cluster.cu", "one column of a patch taken for the only one at the border"),
        "dual_row<kWholeColumns, kWarpSize>",
        "dual_row<true, kWarpSize>",
    ),
    _fault(
        *("cluster", "cluster.cu", "last row of the frame unknown"),
        "at.width - 1 - at.x, last_row, steps",
        "at.width - 1 - at.x, false, steps",
    ),
    _fault(
        *("still cluster", "cluster.cu", "level goes on after a still warp"),
        "    if (ends_level(done, options)) break;\n",
        "",
    ),
    _fault(
        *("still cluster", "cluster.cu", "level ended by any test"),
        "  return done == options.check_first &&\n         options",
        "  return options",
    ),
    _fault(
        *("cluster", "cluster.cu", "last block missing in the sum"),
        "i < kBlocks * kWarps;",
        "i < (kBlocks - 1) * kWarps;",
    ),
)

CODES = (
    _fault(*("codes", "quantize.cu", "scale one step too large at a power of two"),
           "limit * scale < most", "limit * scale <= most"),
    _fault(*("codes", "quantize.cu", "codes cut off instead of rounded"),
           "scaled = rintf(flow[at]", "scaled = truncf(flow[at]"),
    _fault(*("codes", "quantize.cu", "halves rounded up"),
           "scaled = rintf(flow[at] * (1.f / scales[blockIdx.y]))",
           "scaled = floorf(flow[at] * (1.f / scales[blockIdx.y]) + 0.5f)"),
    _fault(*("codes", "quantize.cu", "largest without the negative ones"),
           "max(most, __float_as_int(own[i]) & 0x7fffffff)", "max(most, __float_as_int(own[i]))"),
    _fault(*("codes", "quantize.cu", "quantile without the negative ones"),
           "value = __float_as_int(own[i]) & 0x7fffffff", "value = __float_as_int(own[i])"),
    _fault(*("codes", "quantize.cu", "quantile one component too low"),
           "greater >= counts[bin]", "greater > counts[bin]"),
    _fault(*("codes", "quantize.cu", "quantile without its last digit"),
           "shift >= 0; shift -= 10", "shift > 0; shift -= 10"),
    _fault(*("codes", "quantize.cu", "digits of other values counted"),
           "value > least && value >> (shift + bits) == digits", "value > least"),
    _fault(*("codes", "quantize.cu", "scale coarser than the largest component needs"),
           "fminf(most / limit, __int_as_float(digits) / quantile_code)",
           "__int_as_float(digits) / quantile_code"),
    _fault(*("codes", "quantize.cu", "counts of the digit before kept"),
           "i += blockDim.x) counts[i] = 0", "i += blockDim.x) counts[i] *= shift < 20"),
    _fault(*("codes", "quantize.cu", "counts read before they are all there"),
           "    __syncthreads();\n    find_bin(", "    find_bin("),
    _fault(*("codes", "quantize.cu", "sums read before they are there"),
           "    sums[threadIdx.x] = sum;\n  }\n  __syncthreads();", "    sums[threadIdx.x] = sum;\n  }"),
)  # fmt: skip

FAULTS = (*TILE, *CORE, *EDGES, *BLOCKS, *CARRIED, *WEIGHTED_MEDIAN, *LINEARISE, *CLUSTER, *CODES)
