// From frames to pyramids, and the flow and its dual variable from level to level: grey values into
// planes, and one separable resampling that does every resize, blur and zoom by tables of taps.
// Beside them, the weights of the total variation, which follow from a level's blurred frames.

#include "platform.cuh"

namespace flowkit {

// Grey values of the frames, bytes or floats.
struct Frames {
  const unsigned char* bytes;  // one of the two is null
  const float* floats;
};

FLOWKIT_DEVICE float grey_at(const Frames& frames, int64 at) {
  return frames.bytes != nullptr ? (float)frames.bytes[at] : frames.floats[at];
}

// Least weight of the total variation (twin: reference.steps.EDGE_WEIGHT_MIN).
constexpr float kLeastWeight = 1e-3f;

// Order-preserving map from non-negative floats to int, so that atomicMin and atomicMax work.
FLOWKIT_DEVICE int ordered(float value) { return __float_as_int(value); }

// Position on a line of `length`, and the line's table of taps (plan.AxisTable).
struct Axis {
  const int* index;
  const float* weights;
  int at, length;
};

template <int kTaps>
struct Taps {
  int index[kTaps];
  float weights[kTaps];
};

template <int kTaps>
FLOWKIT_DEVICE Taps<kTaps> taps_of(const Axis& axis) {
  Taps<kTaps> taps;
  FLOWKIT_UNROLL for (int k = 0; k < kTaps; ++k) {
    taps.index[k] = axis.index[k * axis.length + axis.at];
    taps.weights[k] = axis.weights[k * axis.length + axis.at];
  }
  return taps;
}

// Planes of two levels, `size` and `new_size` px, the coarser one's `width` px wide.
struct Planes {
  const float* source;
  float* result;
  int64 size, new_size;
  int width;
};

// One pixel of all planes of a pair, two at a time: u, and the components of q of u1 and of u2.
// Sums are those of resampling the rows first, then the columns.
template <int kTaps>
FLOWKIT_DEVICE void upsample_pixel(const Planes& planes, const Axis& across, const Axis& down,
                                   int pair, int pairs, bool dual, float gain) {
  const Taps<kTaps> columns = taps_of<kTaps>(across), rows = taps_of<kTaps>(down);
  int offsets[kTaps][kTaps];
  FLOWKIT_UNROLL for (int r = 0; r < kTaps; ++r) {
    FLOWKIT_UNROLL for (int c = 0; c < kTaps; ++c) {
      offsets[r][c] = rows.index[r] * planes.width + columns.index[c];
    }
  }
  const bool last_column = across.at == across.length - 1, last_row = down.at == down.length - 1;
  for (int k = 0; k < (dual ? 3 : 1); ++k) {
    const int64 first = k == 0 ? 2 * pair : 2 * (pairs + 2 * pair + k - 1);
    FLOWKIT_UNROLL for (int component = 0; component < 2; ++component) {
      const float* const image = planes.source + (first + component) * planes.size;
      float sum = 0.f;
      FLOWKIT_UNROLL for (int r = 0; r < kTaps; ++r) {
        float of_row = 0.f;
        FLOWKIT_UNROLL for (int c = 0; c < kTaps; ++c) {
          of_row = fmaf(columns.weights[c], image[offsets[r][c]], of_row);
        }
        sum = fmaf(rows.weights[r], of_row, sum);
      }
      const bool zero = k > 0 && (component == 0 ? last_column : last_row);
      const int64 at = (first + component) * planes.new_size + down.at * across.length + across.at;
      planes.result[at] = zero ? 0.f : k == 0 ? gain * sum : sum;
    }
  }
}

}  // namespace flowkit

// Lowest and highest grey value of each pair's two frames. ranges [pairs]: as int bits, set before
// to (0x7f7fffff, 0).
extern "C" __global__ void flowkit_grey_range(const unsigned char* bytes, const float* floats,
                                              const int2* __restrict__ pairs, int2* ranges, int n) {
  using namespace flowkit;
  const Frames frames = {bytes, floats};
  const int2 pair = pairs[blockIdx.y];
  float low = 3.4e38f, high = 0.f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const float a = grey_at(frames, (int64)pair.x * n + i),
                b = grey_at(frames, (int64)pair.y * n + i);
    low = fminf(low, fminf(a, b));
    high = fmaxf(high, fmaxf(a, b));
  }
  atomicMin(&ranges[blockIdx.y].x, ordered(low));
  atomicMax(&ranges[blockIdx.y].y, ordered(high));
}

// Planes of grey values. sources [planes]: each plane's frame. With `ranges` planes 2 k and 2 k + 1
// belong to pair k and are scaled together to [0, 255] (twin:
// reference.steps.normalize_jointly).
extern "C" __global__ void flowkit_load_grey(const unsigned char* bytes, const float* floats,
                                             const int* __restrict__ sources,
                                             const int2* __restrict__ ranges, float* planes,
                                             int n) {
  using namespace flowkit;
  const Frames frames = {bytes, floats};
  const int i = blockIdx.x * blockDim.x + threadIdx.x, plane = blockIdx.y;
  if (i >= n) return;
  float value = grey_at(frames, (int64)sources[plane] * n + i);
  if (ranges != nullptr) {
    const float low = __int_as_float(ranges[plane / 2].x);
    const float high = __int_as_float(ranges[plane / 2].y);
    if (high > low) value = (value - low) * (255.f / (high - low));
  }
  planes[(int64)plane * n + i] = value;
}

// Resample one axis of every plane: result[i] = gain * sum over k of weights[k][i] * source at
// index[k][i] (twins: reference.pyramid.resize_bilinear, zoom_bilinear, pyr_down, gaussian_blur,
// zoom_out, zoom_in, which differ in their tables alone). Planes are [height][width] before and
// [new_height][new_width] after, where only the resampled side may differ.
extern "C" __global__ void flowkit_resample(const float* __restrict__ source, float* result,
                                            const int* __restrict__ index,
                                            const float* __restrict__ weights, int taps,
                                            int vertical, int planes, int height, int width,
                                            int new_height, int new_width, float gain) {
  using namespace flowkit;
  const int n = new_height * new_width, at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n) return;
  const int y = at / new_width, x = at - y * new_width;
  const int i = vertical ? y : x, length = vertical ? new_height : new_width;
  const int64 first = vertical ? x : (int64)y * width, step = vertical ? width : 1;
  for (int64 plane = blockIdx.y; plane < planes; plane += gridDim.y) {
    const float* const line = source + plane * height * width + first;
    float sum = 0.f;
    for (int k = 0; k < taps; ++k) {
      sum = fmaf(weights[k * length + i], line[index[k * length + i] * step], sum);
    }
    result[plane * n + at] = gain * sum;
  }
}

// Bring a level's flow to the next finer one, and its dual variable if it is there, by both axes'
// tables at once (twins: reference.pyramid.upsample_flow, upsample_dual). source, result: planes of
// the flow [pairs][2], then, if `dual`, of q [pairs][4], which has no gain, and of whose components
// those across the last column and row are zero.
extern "C" __global__ void flowkit_upsample(const float* __restrict__ source, float* result,
                                            const int* __restrict__ columns,
                                            const float* __restrict__ column_weights,
                                            const int* __restrict__ rows,
                                            const float* __restrict__ row_weights, int taps,
                                            int pairs, int dual, int height, int width,
                                            int new_height, int new_width, float gain) {
  using namespace flowkit;
  const int at = blockIdx.x * blockDim.x + threadIdx.x, pair = blockIdx.y;
  if (at >= new_height * new_width) return;
  const Axis across = {columns, column_weights, at % new_width, new_width};
  const Axis down = {rows, row_weights, at / new_width, new_height};
  const int64 size = (int64)height * width, new_size = (int64)new_height * new_width;
  const Planes planes = {source, result, size, new_size, width};
  if (taps == 2) {
    upsample_pixel<2>(planes, across, down, pair, pairs, dual, gain);
  } else {
    upsample_pixel<4>(planes, across, down, pair, pairs, dual, gain);
  }
}

// Bounds of |q| by the edges of each pair's first frame: theta w with w = exp(-alpha (|grad| /
// 255)^beta), at least .001 (twin: reference.steps.edge_weight). smooth [planes][n]: the blurred
// planes; planes [pairs]: the pair's two planes; bounds [pairs][n].
extern "C" __global__ void flowkit_edge_bounds(const float* __restrict__ smooth,
                                               const int2* __restrict__ planes, float* bounds,
                                               int width, int height, float alpha, float beta,
                                               float theta) {
  using namespace flowkit;
  const int n = width * height, i = blockIdx.x * blockDim.x + threadIdx.x, pair = blockIdx.y;
  if (i >= n) return;
  const int x = i % width, y = i / width;
  const float* const image = smooth + (int64)planes[pair].x * n;
  const float gx = image[min(x + 1, width - 1) + y * width] - image[max(x - 1, 0) + y * width];
  const float gy = image[x + min(y + 1, height - 1) * width] - image[x + max(y - 1, 0) * width];
  const float strength = 0.5f * square_root(fmaf(gx, gx, gy * gy)) / 255.f;
  bounds[(int64)pair * n + i] = theta * fmaxf(expf(-alpha * powf(strength, beta)), kLeastWeight);
}
