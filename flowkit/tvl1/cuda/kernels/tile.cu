// The portable solver: any GPU, any size. One launch does a few iterations of every pair that is
// still active, on overlapping tiles held in registers (temporal blocking). Errors
// of a tile's cut edges spread inwards by one pixel an iteration, so it keeps only pixels `halo` px
// inside.
//
// Compiled with FLOWKIT_COLUMNS, FLOWKIT_ROWS (of a thread's patch), FLOWKIT_WARPS (of a block) and
// the macros of core.cuh.

#include "core.cuh"
#include "state.cuh"

namespace flowkit {

constexpr int kColumns = FLOWKIT_COLUMNS, kRows = FLOWKIT_ROWS, kWarps = FLOWKIT_WARPS;
constexpr int kTileWidth = kWarpSize * kColumns, kTileHeight = kRows * kWarps;

using TilePatch = Patch<kRows, kColumns>;

// Position of a tile along one axis, and the pixels [from, to) that it writes.
struct Span {
  int origin, from, to;
};

FLOWKIT_DEVICE Span tile_span(int index, int count, int side, int extent, int halo) {
  const int stride = extent - 2 * halo;
  Span span;
  span.origin = max(0, min(index * stride, side - extent));
  span.from = index == 0 ? 0 : index * stride + halo;
  span.to = index + 1 == count ? side : (index + 1) * stride + halo;
  return span;
}

FLOWKIT_DEVICE bool owns(const Span& span, int at) { return at >= span.from && at < span.to; }

// Read a patch whose first pixel is (x, y); zeros outside the frame. Pixels of still blocks will
// keep what they have.
FLOWKIT_DEVICE void load_patch(TilePatch& patch, float4 (&data)[kRows][kColumns],
                               const float2* __restrict__ u, const float4* __restrict__ q,
                               const float4* __restrict__ terms, int x, int y, int width,
                               int height, const BlockChanges& settled) {
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      float2 flow = {0.f, 0.f};
      float4 dual = {0.f, 0.f, 0.f, 0.f}, term = dual;
      if (x + j < width && y + r < height) {
        const int at = (y + r) * width + x + j;
        flow = u[at];
        dual = q[at];
        term = terms[at];
        if (is_still(settled, x + j, y + r)) term.w = -1.f;
      }
      patch.u1[r][j] = flow.x;
      patch.u2[r][j] = flow.y;
      patch.q11[r][j] = dual.x;
      patch.q12[r][j] = dual.y;
      patch.q21[r][j] = dual.z;
      patch.q22[r][j] = dual.w;
      data[r][j] = term;
    }
  }
}

FLOWKIT_DEVICE void store_patch(const TilePatch& patch, float2* __restrict__ u,
                                float4* __restrict__ q, int x, int y, int width, const Span& across,
                                const Span& down) {
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      if (!owns(across, x + j) || !owns(down, y + r)) continue;
      const int at = (y + r) * width + x + j;
      float2 flow;
      float4 dual;
      flow.x = patch.u1[r][j];
      flow.y = patch.u2[r][j];
      dual.x = patch.q11[r][j];
      dual.y = patch.q12[r][j];
      dual.z = patch.q21[r][j];
      dual.w = patch.q22[r][j];
      u[at] = flow;
      q[at] = dual;
    }
  }
}

// Write one row of a patch to where the neighbouring warp reads it.
FLOWKIT_DEVICE void publish(float2* row, const float (&first)[kColumns],
                            const float (&second)[kColumns]) {
  FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
    float2 value;
    value.x = first[j];
    value.y = second[j];
    row[j * kWarpSize] = value;
  }
}

// Read the bounds of a patch into its thread's slots, where the thread alone reads them again.
FLOWKIT_DEVICE void load_bounds(float* slots, const float* __restrict__ bounds, int x, int y,
                                int width, int height) {
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      const bool inside = x + j < width && y + r < height;
      slots[r * kTileWidth + j * kWarpSize] = inside ? bounds[(y + r) * width + x + j] : 1.f;
    }
  }
}

// One iteration of the whole tile. `bounds`, if kWeighted, `u_rows` and `q_rows` are this thread's
// slots: its first row of u goes to u_rows[0], the next warp's is at u_rows[kTileWidth]; its last
// row of q goes to q_rows[kTileWidth], the warp before's is at q_rows[0].
template <bool kMeasure>
FLOWKIT_DEVICE void iterate_tile(TilePatch& patch, const float4 (&data)[kRows][kColumns],
                                 float2* u_rows, float2* q_rows, int x, int y, int width,
                                 int height, const Span& across, const Span& down,
                                 const Steps& steps, const float* bounds, float& change,
                                 const BlockChanges& measured) {
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    Counted counted = {across.from - x, across.to - x};
    if (!owns(down, y + r)) counted.to = counted.from;
    primal_row<kMeasure, 1>(patch, r, q_rows, data[r], x == 0, counted, change,
                            {measured, x, y + r, 0});
  }
  publish(u_rows, patch.u1[0], patch.u2[0]);
  __syncthreads();
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    dual_row<false, 1>(patch, r, u_rows + kTileWidth, width - 1 - x, y + r == height - 1, steps,
                       bounds + r * kTileWidth, data[r]);
  }
  publish(q_rows + kTileWidth, patch.q12[kRows - 1], patch.q22[kRows - 1]);
  __syncthreads();
}

// Sum of every thread's value, in a fixed order; thread 0 gets it.
FLOWKIT_DEVICE float sum_over_block(float value) {
  FLOWKIT_SHARED(float, of_warp, kWarps);
  const float sum = sum_over_warp(value);
  if (threadIdx.x % kWarpSize == 0) of_warp[threadIdx.x / kWarpSize] = sum;
  __syncthreads();
  float total = 0.f;
  for (int w = 0; w < kWarps; ++w) total += of_warp[w];
  return total;
}

// What a launch tests after its last iteration: whether the warp has converged, and whether the
// level has with it (twin: reference.solver.solve_level).
enum Test { kNoTest = 0, kEndsWarp = 1, kEndsLevel = 2 };

// Finish a pair in its last block: turn the buffers over, count the iterations, and apply the
// stopping rule (twin: reference.steps.has_converged) to the tiles' sums in a fixed order.
FLOWKIT_DEVICE void retire_launch(PairState& state, const float* changes, int tiles, int steps,
                                  int test, float enough, int* iterations, PairCounts* counts) {
  if (threadIdx.x >= kWarpSize) return;
  float change = 0.f;
  if (test != kNoTest) {
    for (int t = threadIdx.x; t < tiles; t += kWarpSize) change += __ldcg(changes + t);
    change = sum_over_warp(change);
  }
  if (threadIdx.x != 0) return;
  state.u_buffer ^= 1;
  state.q_buffer ^= 1;
  state.arrived = 0;
  *iterations += steps;
  if (test == kNoTest || change > enough) return;
  state.active = 0;
  atomicSub(&counts->active, 1);
  if (test == kEndsLevel) {
    state.ended = kEndedNow;
    atomicSub(&counts->going, 1);
  }
}

}  // namespace flowkit

// Do `steps` <= `halo` iterations. Block b works on tile b % tiles of pair b / tiles.
//
// terms [pairs][n]: the data term; u, q [2][pairs][n]: both buffers; changes [pairs][tiles]:
// written if there is a `test` (flowkit::Test), which also stops the pairs whose last iteration
// changed no more than `enough`; iterations [pairs], `count_stride` apart: counted up; counts:
// counted down; bounds [pairs][n]: of |q|, if kWeighted. If kSkipping, and not null, measured
// [pairs][blocks]: counted up by what the last iteration changed; settled: the same, by an earlier
// launch of the warp, whose blocks up to `still` units a pixel keep u and q.
extern "C" __global__ void __launch_bounds__(flowkit::kWarpSize* flowkit::kWarps)
    flowkit_tile(const float4* __restrict__ terms, float2* u, float4* q, flowkit::PairState* states,
                 float* changes, int* iterations, flowkit::PairCounts* counts, int pairs, int width,
                 int height, int tiles_x, int tiles_y, int halo, int steps, int test,
                 int count_stride, float enough, float tau, float taut, float theta,
                 const float* __restrict__ bounds, int* measured, int* settled, float still) {
  using namespace flowkit;
  FLOWKIT_SHARED(float2, u_slots, (kWarps + 1) * kTileWidth);
  FLOWKIT_SHARED(float2, q_slots, (kWarps + 1) * kTileWidth);
  FLOWKIT_SHARED(float, bound_slots, kWeighted ? kTileHeight * kTileWidth : 1);
  const int tiles = tiles_x * tiles_y, pair = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  PairState& state = states[pair];
  if (!state.active) return;
  const Span across = tile_span(tile % tiles_x, tiles_x, width, kTileWidth, halo);
  const Span down = tile_span(tile / tiles_x, tiles_y, height, kTileHeight, halo);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int x = across.origin + lane * kColumns, y = down.origin + warp * kRows;
  const int64 n = (int64)width * height;
  const int u_now = state.u_buffer, q_now = state.q_buffer;

  const BlockChanges to_measure = changes_of_pair(measured, pair, width, height, still);
  const BlockChanges to_skip = changes_of_pair(settled, pair, width, height, still);

  TilePatch patch;
  float4 data[kRows][kColumns];
  load_patch(patch, data, u + ((int64)u_now * pairs + pair) * n,
             q + ((int64)q_now * pairs + pair) * n, terms + pair * n, x, y, width, height,
             to_skip);
  float2* const u_rows = u_slots + warp * kTileWidth + lane;
  float2* const q_rows = q_slots + warp * kTileWidth + lane;
  float* const own_bounds = bound_slots + warp * kRows * kTileWidth + lane;
  if constexpr (kWeighted) load_bounds(own_bounds, bounds + pair * n, x, y, width, height);
  const float zeros[kColumns] = {};
  if (warp == 0) publish(q_rows, zeros, zeros);
  if (warp == kWarps - 1) publish(u_rows + kTileWidth, zeros, zeros);
  publish(q_rows + kTileWidth, patch.q12[kRows - 1], patch.q22[kRows - 1]);
  __syncthreads();

  const Steps dual_steps = {tau, taut, theta};
  float change = 0.f;
  for (int i = 1; i < steps; ++i) {
    iterate_tile<false>(patch, data, u_rows, q_rows, x, y, width, height, across, down, dual_steps,
                        own_bounds, change, to_measure);
  }
  iterate_tile<true>(patch, data, u_rows, q_rows, x, y, width, height, across, down, dual_steps,
                     own_bounds, change, to_measure);
  store_patch(patch, u + ((int64)(u_now ^ 1) * pairs + pair) * n,
              q + ((int64)(q_now ^ 1) * pairs + pair) * n, x, y, width, across, down);
  if (test != kNoTest) {
    const float sum = sum_over_block(change);
    if (threadIdx.x == 0) changes[(int64)pair * tiles + tile] = sum;
  }
  if (last_block_of_pair(state, tiles)) {
    retire_launch(state, changes + (int64)pair * tiles, tiles, steps, test, enough,
                  iterations + (int64)pair * count_stride, counts);
  }
}
