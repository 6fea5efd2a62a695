// The weighted median of the flow: of a pixel's neighbours, the least value up to which the weights
// reach half their sum. Neighbours weigh by their likeness to the pixel in the first frame and by
// their distance; those outside the frame weigh nothing (Sun, Roth, Black 2010, eq. 11; twin:
// reference.steps.weighted_median).
//
// A block filters a tile of kTileWidth x kTileHeight pixels, a thread each. It lists the pixels
// around which the flow varies first, so that its warps work on them alone.
//
// Compiled with FLOWKIT_MEDIAN_SIDE: 5 or 7, the side of the window.

#include "linearise.cuh"
#include "state.cuh"

#ifndef FLOWKIT_MEDIAN_SIDE
#define FLOWKIT_MEDIAN_SIDE 5
#endif

namespace flowkit {

constexpr int kSide = FLOWKIT_MEDIAN_SIDE, kRadius = kSide / 2;
static_assert(kSide == 5 || kSide == 7, "FLOWKIT_MEDIAN_SIDE must be 5 or 7");
constexpr int kTileWidth = 32, kTileHeight = 8, kThreads = kTileWidth * kTileHeight;
// Of a tile with its surroundings.
constexpr int kColumns = kTileWidth + 2 * kRadius, kPixels = kColumns * (kTileHeight + 2 * kRadius);

// Halvings of the range of values, before the values left are tried one after the other.
constexpr int kHalvings = 8;

constexpr float kOutside = 3e38f;  // in place of the grey values there
constexpr float kNoValue = 3.4e38f;

struct MedianOptions {
  float spread;              // px; filter where a component varies by more within the window
  float per_grey2, per_px2;  // weights fall as 2^-(per_grey2 dI^2 + per_px2 d^2)
};

// A flow in memory: u1 of pixel i at first[step i], u2 at first[step i + second].
struct FlowView {
  float* first;
  int step;
  int64 second;
};

// A tile and its surroundings in shared memory, edges repeated; the pixels to be filtered.
struct MedianTile {
  float *u1, *u2, *grey;
  int *listed, *count;
};

// Read a tile whose first pixel is (x, y).
FLOWKIT_DEVICE void load_tile(const MedianTile& tile, const FlowView& u,
                              const float* __restrict__ I0, int x, int y, int width, int height) {
  if (threadIdx.x == 0) *tile.count = 0;
  for (int i = threadIdx.x; i < kPixels; i += kThreads) {
    const int column = x + i % kColumns - kRadius, row = y + i / kColumns - kRadius;
    const bool inside = column >= 0 && column < width && row >= 0 && row < height;
    const int at = clamp_index(row, height) * width + clamp_index(column, width);
    const float* const value = u.first + (int64)u.step * at;
    tile.u1[i] = value[0];
    tile.u2[i] = value[u.second];
    tile.grey[i] = inside ? I0[at] : kOutside;
  }
}

// Largest difference of two values of the window about `centre`.
FLOWKIT_DEVICE float spread_about(const float* centre) {
  float low = *centre, high = low;
  FLOWKIT_UNROLL for (int r = -kRadius; r <= kRadius; ++r) {
    FLOWKIT_UNROLL for (int c = -kRadius; c <= kRadius; ++c) {
      low = fminf(low, centre[r * kColumns + c]);
      high = fmaxf(high, centre[r * kColumns + c]);
    }
  }
  return high - low;
}

FLOWKIT_DEVICE void weigh_neighbours(const float* grey, const MedianOptions& options,
                                     float (&weights)[kSide][kSide]) {
  FLOWKIT_UNROLL for (int r = 0; r < kSide; ++r) {
    FLOWKIT_UNROLL for (int c = 0; c < kSide; ++c) {
      const int down = r - kRadius, across = c - kRadius;
      const float neighbour = grey[down * kColumns + across], difference = neighbour - *grey;
      const float far = options.per_px2 * (down * down + across * across);
      const float weight = exp2f(-fmaf(options.per_grey2 * difference, difference, far));
      weights[r][c] = neighbour < kOutside ? weight : 0.f;
    }
  }
}

// Sum of the weights of all values up to `most`: in one order, so that it never falls as `most`
// grows, and that of all values is the largest.
FLOWKIT_DEVICE float weight_up_to(float most, const float (&values)[kSide][kSide],
                                  const float (&weights)[kSide][kSide]) {
  float sum = 0.f;
  FLOWKIT_UNROLL for (int r = 0; r < kSide; ++r) {
    float of_row = 0.f;
    FLOWKIT_UNROLL for (int c = 0; c < kSide; ++c) {
      of_row += values[r][c] <= most ? weights[r][c] : 0.f;
    }
    sum += of_row;
  }
  return sum;
}

// Least value above another.
FLOWKIT_DEVICE float least_above(float other, const float (&values)[kSide][kSide]) {
  float least = kNoValue;
  FLOWKIT_UNROLL for (int r = 0; r < kSide; ++r) {
    FLOWKIT_UNROLL for (int c = 0; c < kSide; ++c) {
      least = values[r][c] > other ? fminf(least, values[r][c]) : least;
    }
  }
  return least;
}

// The weighted median about `centre`: by halving the range of the values, then the values left.
FLOWKIT_DEVICE float weighted_median(const float* centre, const float (&weights)[kSide][kSide]) {
  float values[kSide][kSide], low = *centre, high = low;
  FLOWKIT_UNROLL for (int r = 0; r < kSide; ++r) {
    FLOWKIT_UNROLL for (int c = 0; c < kSide; ++c) {
      values[r][c] = centre[(r - kRadius) * kColumns + c - kRadius];
      low = fminf(low, values[r][c]);
      high = fmaxf(high, values[r][c]);
    }
  }
  const float half = 0.5f * weight_up_to(high, values, weights);
  float below = -kNoValue;  // the weights up to here are less than half
  FLOWKIT_NO_UNROLL for (int k = 0; k < kHalvings; ++k) {
    const float middle = 0.5f * (low + high);
    const bool reached = weight_up_to(middle, values, weights) >= half;
    high = reached ? middle : high;
    low = reached ? low : middle;
    below = reached ? below : middle;
  }
  float median = least_above(below, values);
  while (weight_up_to(median, values, weights) < half) median = least_above(median, values);
  return median;
}

// Filter one tile, block blockIdx.x of those of a frame.
FLOWKIT_DEVICE void filter_tile(const FlowView& u, const FlowView& filtered,
                                const float* __restrict__ I0, int width, int height,
                                const MedianOptions& options) {
  FLOWKIT_SHARED(float, u1, kPixels);
  FLOWKIT_SHARED(float, u2, kPixels);
  FLOWKIT_SHARED(float, grey, kPixels);
  FLOWKIT_SHARED(int, listed, kThreads);
  FLOWKIT_SHARED(int, count, 1);
  const MedianTile tile = {u1, u2, grey, listed, count};
  const int tiles_x = (width + kTileWidth - 1) / kTileWidth;
  const int x = blockIdx.x % tiles_x * kTileWidth, y = blockIdx.x / tiles_x * kTileHeight;
  load_tile(tile, u, I0, x, y, width, height);
  __syncthreads();

  const int column = threadIdx.x % kTileWidth, row = threadIdx.x / kTileWidth;
  if (x + column < width && y + row < height) {
    const int slot = (row + kRadius) * kColumns + column + kRadius;
    if (fmaxf(spread_about(u1 + slot), spread_about(u2 + slot)) > options.spread) {
      listed[atomicAdd(count, 1)] = threadIdx.x;
    } else {
      float* const kept = filtered.first + (int64)filtered.step * ((y + row) * width + x + column);
      kept[0] = u1[slot];
      kept[filtered.second] = u2[slot];
    }
  }
  __syncthreads();

  if ((int)threadIdx.x >= *count) return;
  const int own = listed[threadIdx.x], own_column = own % kTileWidth, own_row = own / kTileWidth;
  const int slot = (own_row + kRadius) * kColumns + own_column + kRadius;
  float weights[kSide][kSide];
  weigh_neighbours(grey + slot, options, weights);
  float* const result =
      filtered.first + (int64)filtered.step * ((y + own_row) * width + x + own_column);
  result[0] = weighted_median(u1 + slot, weights);
  result[filtered.second] = weighted_median(u2 + slot, weights);
}

}  // namespace flowkit

// Filter every pair at the end of a level. frames [planes][n], planes [pairs]: as in level.cu;
// flow, filtered [pairs][2][n].
extern "C" __global__ void __launch_bounds__(flowkit::kThreads)
    flowkit_weighted_median(const float* __restrict__ frames, const int2* __restrict__ planes,
                            float* flow, float* filtered, int width, int height, float spread,
                            float per_grey2, float per_px2) {
  using namespace flowkit;
  const int64 n = (int64)width * height, pair = blockIdx.y;
  const FlowView from = {flow + 2 * pair * n, 1, n}, to = {filtered + 2 * pair * n, 1, n};
  filter_tile(from, to, frames + planes[pair].x * n, width, height, {spread, per_grey2, per_px2});
}

// Filter u [2][pairs][n] into the other buffer after a warp: of the pairs that took part in it.
extern "C" __global__ void __launch_bounds__(flowkit::kThreads)
    flowkit_weighted_median_of_warp(const float* __restrict__ frames,
                                    const int2* __restrict__ planes, float2* u,
                                    flowkit::PairState* states, int pairs, int width, int height,
                                    float spread, float per_grey2, float per_px2) {
  using namespace flowkit;
  const int64 n = (int64)width * height, pair = blockIdx.y;
  PairState& state = states[pair];
  if (state.ended == kEndedBefore) return;
  const int now = state.u_buffer;
  const FlowView from = {(float*)(u + ((int64)now * pairs + pair) * n), 2, 1};
  const FlowView to = {(float*)(u + ((int64)(now ^ 1) * pairs + pair) * n), 2, 1};
  filter_tile(from, to, frames + planes[pair].x * n, width, height, {spread, per_grey2, per_px2});
  if (last_block_of_pair(state, gridDim.x) && threadIdx.x == 0) {
    state.u_buffer ^= 1;
    state.arrived = 0;
    if (state.ended == kEndedNow) state.ended = kEndedBefore;
  }
}
