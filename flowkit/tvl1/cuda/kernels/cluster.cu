// The cluster solver: sm_90 and newer, frames that fit. One cluster of thread blocks keeps one pair
// on chip for all warps and iterations of a level: u and q in registers, the data term in shared
// memory. A warp spans a whole row; blocks lie below one another and send their border rows.
//
// In each iteration the dual step needs the first row of u from below, and the primal step of the
// next one the last row of q from above. Rows not needed by anyone else are worked on before
// waiting.
//
// Compiled with FLOWKIT_COLUMNS, FLOWKIT_ROWS (of a thread), FLOWKIT_WARPS (of a block),
// FLOWKIT_CLUSTER (blocks), FLOWKIT_RESIDENT (blocks on one processor), FLOWKIT_SHARED_BYTES (of a
// block, as the launch gives it), FLOWKIT_WHOLE_COLUMNS, FLOWKIT_WHOLE_ROWS: whether width and height
// are multiples of a patch's, and the macros of core.cuh and linearise.cuh; with FLOWKIT_CARRIED q may
// start where another launch has left it, and be left for one.

#include "blocks.cuh"
#include "cluster.cuh"
#include "core.cuh"
#include "linearise.cuh"

#ifndef FLOWKIT_CARRIED
#define FLOWKIT_CARRIED 0
#endif

namespace flowkit {

constexpr int kColumns = FLOWKIT_COLUMNS, kRows = FLOWKIT_ROWS, kWarps = FLOWKIT_WARPS;
constexpr int kBlocks = FLOWKIT_CLUSTER, kThreads = kWarpSize * kWarps;
constexpr bool kCarried = FLOWKIT_CARRIED;
constexpr bool kWholeColumns = FLOWKIT_WHOLE_COLUMNS, kWholeRows = FLOWKIT_WHOLE_ROWS;
constexpr int kRowPixels = kWarpSize * kColumns;
constexpr int kRowBytes = kRowPixels * (int)sizeof(float2);

using ClusterPatch = Patch<kRows, kColumns>;

// The bounds of |q| of a block's pixels, if it has any. A thread alone uses its own.
template <bool kSome>
struct Bounds {
  float bounds[kWarps * kRows * kRowPixels];
};
template <>
struct Bounds<false> {
  static constexpr float* bounds = nullptr;
};

// A block's shared memory. Column j of lane l is at 32 j + l of each row.
struct Shared : Bounds<kWeighted> {
  float4 data[kWarps * kRows * kRowPixels];
  float2
      u_rows[(kWarps + 1) * kRowPixels];  // the first row of u of each warp, and of the block below
  float2
      q_rows[(kWarps + 1) * kRowPixels];  // the last row of q of the block above, and of each warp
  float changes[2][kBlocks * kWarps];     // of every warp of the cluster, of the latest two tests
  TransactionBarrier changes_ready[2];
  // Each warp's own: the row that it reads from its neighbour is there.
  TransactionBarrier u_ready[kWarps], q_ready[kWarps];
};
static_assert(sizeof(Shared) == FLOWKIT_SHARED_BYTES, "the launch must give what a block needs");

struct LevelOptions {
  WarpOptions warp;
  Steps steps;
  int iterations, check_every;  // at most so many; a test after so many, never if 0
  int check_first;              // one more test after so many, none if 0
  float enough;                 // a pair stops when an iteration changes no more
};

// Whether a warp of so many iterations is its level's last (twin: reference.solver.solve_level).
FLOWKIT_DEVICE bool ends_level(int done, const LevelOptions& options) {
  return done == options.check_first &&
         options.check_first < min(options.check_every, options.iterations);
}

// Position of a thread.
struct ThreadPosition {
  int lane, warp, rank;
  int x, y;  // first pixel of its patch
  int width, height;
};

// Keep the compiler from keeping addresses of the level's start until its end: it has no registers
// left for them.
FLOWKIT_DEVICE void forget(ThreadPosition& at) {
  asm volatile("" : "+r"(at.x), "+r"(at.y), "+r"(at.width), "+r"(at.height));
}

// Read u and q, [2][n] and [4][n]; zeros if null.
FLOWKIT_DEVICE void start_patch(ClusterPatch& patch, const float* flow, const float* dual,
                                const ThreadPosition& at) {
  const int64 n = (int64)at.width * at.height;
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      const bool inside = at.x + j < at.width && at.y + r < at.height;
      const bool moved = inside && flow != nullptr, tense = kCarried && inside && dual != nullptr;
      const int64 pixel = (int64)(at.y + r) * at.width + at.x + j;
      patch.u1[r][j] = moved ? flow[pixel] : 0.f;
      patch.u2[r][j] = moved ? flow[n + pixel] : 0.f;
      patch.q11[r][j] = tense ? dual[pixel] : 0.f;
      patch.q12[r][j] = tense ? dual[n + pixel] : 0.f;
      patch.q21[r][j] = tense ? dual[2 * n + pixel] : 0.f;
      patch.q22[r][j] = tense ? dual[3 * n + pixel] : 0.f;
    }
  }
}

FLOWKIT_DEVICE void load_bounds(Shared& shared, const float* __restrict__ bounds,
                                const ThreadPosition& at) {
  float* const rows = shared.bounds + at.warp * kRows * kRowPixels + at.lane;
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      const bool inside = at.x + j < at.width && at.y + r < at.height;
      const int64 pixel = (int64)(at.y + r) * at.width + at.x + j;
      rows[r * kRowPixels + j * kWarpSize] = inside ? bounds[pixel] : 1.f;
    }
  }
}

// Write u, and q if `dual` is not null.
FLOWKIT_DEVICE void finish_patch(const ClusterPatch& patch, float* flow, float* dual,
                                 const ThreadPosition& at) {
  const int64 n = (int64)at.width * at.height;
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      if (at.x + j >= at.width || at.y + r >= at.height) continue;
      const int64 pixel = (int64)(at.y + r) * at.width + at.x + j;
      flow[pixel] = patch.u1[r][j];
      flow[n + pixel] = patch.u2[r][j];
      if (!kCarried || dual == nullptr) continue;
      dual[pixel] = patch.q11[r][j];
      dual[n + pixel] = patch.q12[r][j];
      dual[2 * n + pixel] = patch.q21[r][j];
      dual[3 * n + pixel] = patch.q22[r][j];
    }
  }
}

// Linearise this warp's rows around u. The flow goes through the slots of the data term, so that
// the long code of the warp is not unrolled for each pixel, and lanes read neighbouring columns.
FLOWKIT_DEVICE void linearise_rows(const ClusterPatch& patch, Shared& shared,
                                   const float* __restrict__ I0, const float* __restrict__ I1,
                                   const ThreadPosition& at, const WarpOptions& options,
                                   const BlockChanges& settled) {
  float4* const rows = shared.data + at.warp * kRows * kRowPixels;
  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
      const float4 u = {patch.u1[r][j], patch.u2[r][j], 0.f, 0.f};
      rows[r * kRowPixels + j * kWarpSize + at.lane] = u;
    }
  }
  __syncwarp();
  for (int i = at.lane; i < kRows * kRowPixels; i += kWarpSize) {
    const int r = i / kRowPixels, x = i % kRowPixels, y = at.y + r;
    float4& slot = rows[r * kRowPixels + x % kColumns * kWarpSize + x / kColumns];
    const float2 u = {slot.x, slot.y};
    const float4 none = {0.f, 0.f, 0.f, 0.f}, kept = {0.f, 0.f, 0.f, -1.f};
    const bool inside = x < at.width && y < at.height;
    slot = !inside                  ? none
           : is_still(settled, x, y) ? kept
                                     : linearise_pixel(I0, I1, at.width, at.height, x, y, u, options);
  }
  __syncwarp();
}

// Write a row to where the neighbour reads it: in this block, or in the one of `rank`.
//
// There is one buffer for each border, and its reuse is ordered by the data alone. A row of u goes up
// only after the row of q of the iteration before has come down, which the warp above sends once it
// has read the row of u before this one; a row of q goes down only after the row of u of its iteration
// has come up, which the warp below sends once it has read the row of q before.
FLOWKIT_DEVICE void publish(const float (&first)[kColumns], const float (&second)[kColumns],
                            float2* row, TransactionBarrier* barrier, bool elsewhere, int rank,
                            int lane) {
  const RemoteAddress there = address_in(row + lane, rank), its_barrier = address_in(barrier, rank);
  FLOWKIT_UNROLL for (int j = 0; j < kColumns; ++j) {
    const float2 value = {first[j], second[j]};
    if (elsewhere) {
      send(offset_by(there, j * kWarpSize * (int)sizeof(float2)), value, its_barrier);
    } else {
      row[j * kWarpSize + lane] = value;
    }
  }
}

// Tell the warp of this block that reads a row that it is there.
FLOWKIT_DEVICE void arrive_at_reader(TransactionBarrier* reader, int lane) {
  __syncwarp();
  if (lane == 0) arrive(reader);
}

// The same for this warp as the reader of a row that no warp of this block writes: it comes from
// another block, or stays as it is.
FLOWKIT_DEVICE void arrive_as_reader(TransactionBarrier* own, bool from_elsewhere, int lane) {
  if (lane != 0) return;
  if (from_elsewhere) {
    arrive_expecting(own, kRowBytes);
  } else {
    arrive(own);
  }
}

// One warp's part of one iteration. `parity` is that of this iteration's phase of its barriers;
// `q_pending`: the rows of q of the iteration before have not been waited for.
template <bool kMeasure>
FLOWKIT_DEVICE void iterate_rows(ClusterPatch& patch, Shared& shared, const ThreadPosition& at,
                                 const Steps& steps, unsigned parity, bool q_pending,
                                 float& change, const BlockChanges& measured) {
  const bool first_warp = at.warp == 0, last_warp = at.warp == kWarps - 1;
  const bool above = first_warp && at.rank > 0, below = last_warp && at.rank < kBlocks - 1;
  const float2* const q_above = shared.q_rows + at.warp * kRowPixels + at.lane;
  const float2* const u_below = shared.u_rows + (at.warp + 1) * kRowPixels + at.lane;

  FLOWKIT_UNROLL for (int k = 1; k <= kRows; ++k) {
    const int r = k % kRows;  // the first row comes last: it alone needs the row above
    if (r == 0 && q_pending) wait(&shared.q_ready[at.warp], parity ^ 1);
    const Counted counted = {0, at.y + r < at.height ? at.width - at.x : 0};
    const float4* const data = shared.data + (at.warp * kRows + r) * kRowPixels + at.lane;
    primal_row<kMeasure, kWarpSize>(patch, r, q_above, data, at.lane == 0, counted, change,
                                    {measured, at.x, at.y + r, 0});
  }
  publish(patch.u1[0], patch.u2[0], shared.u_rows + (above ? kWarps : at.warp) * kRowPixels,
          &shared.u_ready[kWarps - 1], above, above ? at.rank - 1 : at.rank, at.lane);
  if (!first_warp) arrive_at_reader(shared.u_ready + at.warp - 1, at.lane);
  if (last_warp) arrive_as_reader(&shared.u_ready[at.warp], below, at.lane);

  FLOWKIT_UNROLL for (int r = 0; r < kRows; ++r) {
    if (r == kRows - 1) wait(&shared.u_ready[at.warp], parity);
    const bool last_row = (!kWholeRows || r == kRows - 1) && at.y + r == at.height - 1;
    const float* const bounds = shared.bounds + (at.warp * kRows + r) * kRowPixels + at.lane;
    const float4* const data = shared.data + (at.warp * kRows + r) * kRowPixels + at.lane;
    dual_row<kWholeColumns, kWarpSize>(patch, r, u_below, at.width - 1 - at.x, last_row, steps, bounds,
                                       data);
  }
  publish(patch.q12[kRows - 1], patch.q22[kRows - 1],
          shared.q_rows + (below ? 0 : at.warp + 1) * kRowPixels, &shared.q_ready[0], below,
          below ? at.rank + 1 : at.rank, at.lane);
  if (!last_warp) arrive_at_reader(shared.q_ready + at.warp + 1, at.lane);
  if (first_warp) arrive_as_reader(&shared.q_ready[at.warp], above, at.lane);
}

// Sum of what all threads of the cluster changed, in one order, the same in every thread. Each warp
// sends its sum to every block. The tests take turns with two places: a warp sends the sum of a test
// only once it has those of all warps of the test before, and so all warps have read the one before that.
FLOWKIT_DEVICE float sum_over_cluster(float change, Shared& shared, int test,
                                      const ThreadPosition& at) {
  float* const changes = shared.changes[test & 1];
  TransactionBarrier* const ready = &shared.changes_ready[test & 1];
  const float of_warp = sum_over_warp(change);
  if (at.lane < kBlocks) {
    const RemoteAddress there = address_in(changes + at.rank * kWarps + at.warp, at.lane);
    send(there, of_warp, address_in(ready, at.lane));
  }
  if (threadIdx.x == 0) arrive_expecting(ready, kBlocks * kWarps * (int)sizeof(float));
  wait(ready, test >> 1 & 1);
  float total = 0.f;
  for (int i = at.lane; i < kBlocks * kWarps; i += kWarpSize) total += changes[i];
  return sum_over_warp(total);
}

// State that one linearisation carries to the next.
struct Phases {
  unsigned parity;
  int tests;
};

// Whether a warp before `warp`, in another launch, was the level's last: those after it have no
// iterations.
FLOWKIT_DEVICE bool has_ended(const int* iterations, int warp, const LevelOptions& options) {
  return warp > 0 && (iterations[warp - 1] == 0 || ends_level(iterations[warp - 1], options));
}

// Let the pixels of still blocks keep u and q from here on. All of the cluster have measured them.
FLOWKIT_DEVICE void keep_still(Shared& shared, const ThreadPosition& at, const BlockChanges& measured) {
  synchronize_cluster();
  float4* const rows = shared.data + at.warp * kRows * kRowPixels + at.lane;
  FLOWKIT_NO_UNROLL for (int r = 0; r < kRows; ++r) {
    FLOWKIT_NO_UNROLL for (int j = 0; j < kColumns; ++j) {
      const bool inside = at.x + j < at.width && at.y + r < at.height;
      if (inside && is_still(measured, at.x + j, at.y + r)) rows[r * kRowPixels + j * kWarpSize].w = -1.f;
    }
  }
}

// Iterate one linearisation (twin: reference.solver.solve_warp); returns the iterations done. `blocks`:
// zeros, that get what the test of check_first measures.
FLOWKIT_DEVICE int solve_warp(ClusterPatch& patch, Shared& shared, const ThreadPosition& at,
                              const LevelOptions& options, Phases& phases,
                              const BlockChanges& blocks) {
  bool q_pending = false;
  int done = 0;
  while (done < options.iterations) {
    ++done;
    const bool test = done == options.check_first ||
                      (options.check_every > 0 && done % options.check_every == 0);
    const bool first = done == options.check_first && done < options.iterations;
    BlockChanges measured = blocks;
    if (!first) measured.changes = nullptr;
    float change = 0.f;
    if (test) {
      iterate_rows<true>(patch, shared, at, options.steps, phases.parity, q_pending, change, measured);
    } else {
      iterate_rows<false>(patch, shared, at, options.steps, phases.parity, q_pending, change, measured);
    }
    phases.parity ^= 1;
    q_pending = true;
    if (test) {
      const float total = sum_over_cluster(change, shared, phases.tests++, at);
      if (total <= options.enough) break;
      if (kSkipping && first) keep_still(shared, at, blocks);
    }
  }
  // The rows of q stay for the next linearisation; the phases must not run ahead of it.
  wait(&shared.q_ready[at.warp], phases.parity ^ 1);
  return done;
}

// The rows that warps read before any neighbour has sent one: of q those of the start.
FLOWKIT_DEVICE void prepare_shared(Shared& shared, const float* dual, const ThreadPosition& at) {
  const int64 n = (int64)at.width * at.height;
  for (int i = threadIdx.x; i < (kWarps + 1) * kRowPixels; i += kThreads) {
    const int of_row = i % kRowPixels, x = of_row % kWarpSize * kColumns + of_row / kWarpSize;
    const int y = (at.rank * kWarps + i / kRowPixels) * kRows - 1;
    float2 u = {0.f, 0.f}, q = u;
    if (kCarried && dual != nullptr && x < at.width && y >= 0 && y < at.height) {
      const int64 pixel = (int64)y * at.width + x;
      q.x = dual[n + pixel];
      q.y = dual[3 * n + pixel];
    }
    shared.u_rows[i] = u;
    shared.q_rows[i] = q;
  }
  if (threadIdx.x < 2) init_barrier(&shared.changes_ready[threadIdx.x], 1);
  if (threadIdx.x < kWarps) {
    init_barrier(&shared.u_ready[threadIdx.x], 1);
    init_barrier(&shared.q_ready[threadIdx.x], 1);
  }
  synchronize_cluster();
}

}  // namespace flowkit

// Refine the flow of every pair on one level, by its warps [first_warp, end_warp): cluster k works
// on pair k. A pair whose level has ended with an earlier warp is left as it is.
//
// frames [planes][n], planes [pairs]: as in level.cu; start [pairs][2][n]: zeros if null; flow
// [pairs][2][n]: written; iterations [pairs], `count_stride` apart: one for each warp, those left
// out as they are; bounds [pairs][n]: of |q|, if kWeighted. If kSkipping, changes [warps][pairs]
// [blocks]: zeros, that get what the test of check_first measures; blocks up to `still` units a pixel
// keep u and q until the level's end. If kCarried, dual_start and dual
// [pairs][4][n]: q before, zeros if null, and after, not written if null. They may be the same: what
// a block needs of another's rows it reads before the cluster's barrier.
extern "C" __global__ void __cluster_dims__(FLOWKIT_CLUSTER, 1,
                                            1) __launch_bounds__(flowkit::kThreads, FLOWKIT_RESIDENT)
    flowkit_cluster(const float* __restrict__ frames, const int2* __restrict__ planes,
                    const float* start, const float* dual_start, float* flow, float* dual,
                    int* iterations, int count_stride, int width, int height, int first_warp,
                    int end_warp, int most_iterations, int check_every, int check_first,
                    float enough, float bicubic_a, float l_t, int clamp, float tau, float taut,
                    float theta, const float* __restrict__ bounds, int* changes, float still) {
  using namespace flowkit;
  FLOWKIT_DYNAMIC_SHARED(memory, sizeof(Shared));
  Shared& shared = *(Shared*)memory;
  ThreadPosition at;
  at.lane = threadIdx.x % kWarpSize;
  at.warp = threadIdx.x / kWarpSize;
  at.rank = cluster_rank();
  at.x = at.lane * kColumns;
  at.y = (at.rank * kWarps + at.warp) * kRows;
  at.width = width;
  at.height = height;
  const int pair = blockIdx.x / kBlocks;
  const int64 n = (int64)width * height;
  const LevelOptions options = {
      {bicubic_a, l_t, clamp}, {tau, taut, theta}, most_iterations, check_every, check_first,
      enough};

  iterations += (int64)pair * count_stride;
  if (kCarried && has_ended(iterations, first_warp, options)) return;

  const float* const own_dual = dual_start == nullptr ? nullptr : dual_start + 4 * pair * n;
  ClusterPatch patch;
  start_patch(patch, start == nullptr ? nullptr : start + 2 * pair * n, own_dual, at);
  prepare_shared(shared, own_dual, at);
  if constexpr (kWeighted) load_bounds(shared, bounds + pair * n, at);
  const float *const I0 = frames + planes[pair].x * n, *const I1 = frames + planes[pair].y * n;
  if constexpr (kCarried) forget(at);
  Phases phases = {0, 0};
  const int pairs = gridDim.x / kBlocks;
  for (int warp = first_warp; warp < end_warp; ++warp) {
    const int64 own = (int64)warp * pairs + pair;
    linearise_rows(patch, shared, I0, I1, at, options.warp,
                   changes_of_pair(warp > 0 ? changes : nullptr, own - pairs, width, height, still));
    const int done = solve_warp(patch, shared, at, options, phases,
                                changes_of_pair(changes, own, width, height, still));
    if (at.rank == 0 && threadIdx.x == 0) iterations[warp] = done;
    if (ends_level(done, options)) break;
  }
  if constexpr (kCarried) forget(at);
  // A block may leave: it has waited for all that others sent to its shared memory.
  finish_patch(patch, flow + 2 * pair * n, dual == nullptr ? nullptr : dual + 4 * pair * n, at);
}
