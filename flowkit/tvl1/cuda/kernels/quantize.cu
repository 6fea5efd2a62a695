// The integer codes of a flow, as flowkit/quantize.py makes them: same roundings, same bits.
// Launched with (blocks, pairs) blocks; every array has the pairs first, then u and v together:
// `values` each.

#include "platform.cuh"

namespace flowkit {

constexpr float kI8UnitPx = 0.125f, kI8Limit = 127.f;   // quantize.I8_UNIT_PX, I8_LIMIT
constexpr float kI16PerPx = 64.f, kI16Limit = 32767.f;  // 1 / quantize.I16_SCALE_PX, I16_LIMIT
constexpr double kU8Levels = 255.0;                     // quantize.U8_LEVELS

// Least scale 2^k / 8 px, k >= 0, that clips nothing (twin: quantize.i8_scale).
FLOWKIT_DEVICE float i8_scale(float largest) {
  float scale = kI8UnitPx;
  while (kI8Limit * scale < largest && scale < 1e36f) scale *= 2.f;
  return scale;
}

}  // namespace flowkit

// Largest |component| of each pair. largest [pairs]: set to 0 before; the bits of a float, which
// order like the integers, NaN above infinity (twin: quantize.largest_px).
extern "C" __global__ void flowkit_largest(const float* __restrict__ flow, int* largest,
                                           int values) {
  const float* const own = flow + (int64)blockIdx.y * values;
  int most = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < values; i += gridDim.x * blockDim.x) {
    most = max(most, __float_as_int(own[i]) & 0x7fffffff);
  }
  atomicMax(&largest[blockIdx.y], most);
}

// Twin: quantize.quantize_i8. Where `largest` is not finite the codes mean nothing.
extern "C" __global__ void flowkit_quantize_i8(const float* __restrict__ flow,
                                               const int* __restrict__ largest, signed char* codes,
                                               int values) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const float per_px = 1.f / i8_scale(__int_as_float(largest[blockIdx.y]));
  codes[at] = (signed char)(int)fminf(fmaxf(rintf(flow[at] * per_px), -kI8Limit), kI8Limit);
}

// Twin: quantize.quantize_i16. clipped [pairs]: set to 0 before; counts what saturates.
extern "C" __global__ void flowkit_quantize_i16(const float* __restrict__ flow, short* codes,
                                                int* clipped, int values) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const float scaled = rintf(flow[at] * kI16PerPx);
  if (fabsf(scaled) > kI16Limit) atomicAdd(&clipped[blockIdx.y], 1);
  codes[at] = (short)(int)fminf(fmaxf(scaled, -kI16Limit), kI16Limit);
}

// Twin: quantize.quantize_u8, in double and in the same order, or codes at the halves would move.
extern "C" __global__ void flowkit_quantize_u8(const float* __restrict__ flow, unsigned char* codes,
                                               int* clipped, int values, double bound) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const double value = flow[at];
  if (fabs(value) > bound) atomicAdd(&clipped[blockIdx.y], 1);
  const double scaled = rint((value + bound) * kU8Levels / (2.0 * bound));
  codes[at] = (unsigned char)(int)fmin(fmax(scaled, 0.0), kU8Levels);
}
