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
// [new_height][new_width] after, where only the resampled side may differ. Planes from `duals` on
// are the x and y components of dual variables in turn: they have no gain, and are zero in the last
// column (x) or row (y) (twin: reference.pyramid.upsample_dual).
extern "C" __global__ void flowkit_resample(const float* __restrict__ source, float* result,
                                            const int* __restrict__ index,
                                            const float* __restrict__ weights, int taps,
                                            int vertical, int planes, int duals, int height,
                                            int width, int new_height, int new_width, float gain) {
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
    const bool dual = plane >= duals, along_x = (plane - duals) % 2 == 0;
    const bool across = dual && (along_x ? x == new_width - 1 : y == new_height - 1);
    result[plane * n + at] = across ? 0.f : dual ? sum : gain * sum;
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
