// A pyramid level around the tile solver: start, linearise, filter, finish.
//
// Compiled with the macros of linearise.cuh.

#include "blocks.cuh"
#include "linearise.cuh"
#include "median.cuh"
#include "state.cuh"

namespace flowkit {

// Index of this thread's pixel in a launch of (ceil(n / threads), pairs) blocks.
FLOWKIT_DEVICE int own_pixel() { return blockIdx.x * blockDim.x + threadIdx.x; }

}  // namespace flowkit

// Bring u and q into the first buffers (twin: reference.solver.solve_level). flow [pairs][2][n]:
// the start, px of this level; dual [pairs][4][n]: that of q; each zeros if null.
extern "C" __global__ void flowkit_start_level(const float* __restrict__ flow,
                                               const float* __restrict__ dual, float2* u, float4* q,
                                               flowkit::PairState* states,
                                               flowkit::PairCounts* counts, int pairs, int width,
                                               int height) {
  using namespace flowkit;
  const int i = own_pixel(), pair = blockIdx.y;
  const int64 n = (int64)width * height;
  if (i == 0) {
    PairState fresh = {0, 0, 0, 0, 0};
    states[pair] = fresh;
    if (pair == 0) counts->going = pairs;
  }
  if (i >= n) return;
  float2 start = {0.f, 0.f};
  if (flow != nullptr) {
    start.x = flow[2 * pair * n + i];
    start.y = flow[(2 * pair + 1) * n + i];
  }
  float4 dual_start = {0.f, 0.f, 0.f, 0.f};
  if (dual != nullptr) {
    const float* const plane = dual + 4 * pair * n + i;
    dual_start = {plane[0], plane[n], plane[2 * n], plane[3 * n]};
  }
  u[pair * n + i] = start;
  q[pair * n + i] = dual_start;
}

// Linearise every pair whose level has not ended around its u, and make all of them active again.
// frames [planes][n]: this level of every plane; planes [pairs]: the pair's two planes. Pixels of
// blocks that `settled` of the warp before, if it is not null, has as still keep u and q (tile.cu).
extern "C" __global__ void flowkit_linearise(const float* __restrict__ frames,
                                             const int2* __restrict__ planes,
                                             const float2* __restrict__ u, float4* terms,
                                             flowkit::PairState* states,
                                             flowkit::PairCounts* counts, int pairs, int width,
                                             int height, float bicubic_a, float l_t, int clamp,
                                             int* settled, float still) {
  using namespace flowkit;
  const int i = own_pixel(), pair = blockIdx.y;
  const int64 n = (int64)width * height;
  if (i == 0 && pair == 0) counts->active = counts->going;
  if (states[pair].ended != kGoesOn) return;
  if (i == 0) states[pair].active = 1;
  if (i >= n) return;
  if (is_still(changes_of_pair(settled, pair, width, height, still), i % width, i / width)) {
    terms[pair * n + i] = {0.f, 0.f, 0.f, -1.f};
    return;
  }
  const int64 plane0 = planes[pair].x, plane1 = planes[pair].y;
  const float2 flow = u[((int64)states[pair].u_buffer * pairs + pair) * n + i];
  const WarpOptions options = {bicubic_a, l_t, clamp};
  terms[pair * n + i] = linearise_pixel(frames + plane0 * n, frames + plane1 * n, width, height,
                                        i % width, i / width, flow, options);
}

// Filter u of the active pairs into the other buffer.
extern "C" __global__ void flowkit_median(float2* u, flowkit::PairState* states, int pairs,
                                          int width, int height) {
  using namespace flowkit;
  const int i = own_pixel(), pair = blockIdx.y;
  const int64 n = (int64)width * height;
  PairState& state = states[pair];
  if (!state.active) return;
  const int now = state.u_buffer;
  if (i < n) {
    const float2* const image = u + ((int64)now * pairs + pair) * n;
    u[((int64)(now ^ 1) * pairs + pair) * n + i] =
        median_5x5(image, width, height, i % width, i / width);
  }
  if (last_block_of_pair(state, gridDim.x) && threadIdx.x == 0) {
    state.u_buffer ^= 1;
    state.arrived = 0;
  }
}

// Copy u of every pair out of its current buffer, and q if `dual` is not null: as in
// flowkit_start_level.
extern "C" __global__ void flowkit_finish_level(const float2* __restrict__ u,
                                                const float4* __restrict__ q,
                                                const flowkit::PairState* __restrict__ states,
                                                float* flow, float* dual, int pairs, int width,
                                                int height) {
  using namespace flowkit;
  const int i = own_pixel(), pair = blockIdx.y;
  const int64 n = (int64)width * height;
  if (i >= n) return;
  const float2 value = u[((int64)states[pair].u_buffer * pairs + pair) * n + i];
  flow[2 * pair * n + i] = value.x;
  flow[(2 * pair + 1) * n + i] = value.y;
  if (dual == nullptr) return;
  const float4 components = q[((int64)states[pair].q_buffer * pairs + pair) * n + i];
  float* const plane = dual + 4 * pair * n + i;
  plane[0] = components.x;
  plane[n] = components.y;
  plane[2 * n] = components.z;
  plane[3 * n] = components.w;
}
