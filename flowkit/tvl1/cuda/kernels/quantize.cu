// The integer codes of a flow, as flowkit/quantize.py makes them: same roundings, same bits.
// Compiled with FLOWKIT_CODE_BYTES, the size of a signed code. Launched with (blocks, pairs)
// blocks; every array has the pairs first, then u and v together: `values` each.

#include "platform.cuh"

#ifndef FLOWKIT_CODE_BYTES
#define FLOWKIT_CODE_BYTES 1
#endif

namespace flowkit {

#if FLOWKIT_CODE_BYTES == 1
using Code = signed char;
#elif FLOWKIT_CODE_BYTES == 2
using Code = short;
#else
using Code = int;
#endif

constexpr double kU8Levels = 255.0;  // quantize.U8_LEVELS

// Least scale 2^k units, k >= 0, that clips nothing (twin: quantize.FieldScale.scale_px).
FLOWKIT_DEVICE float field_scale(float largest, float unit, float limit) {
  float scale = unit;
  while (limit * scale < largest && scale < 1e36f) scale *= 2.f;
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

// Twin: quantize.FieldScale. Where `largest` is not finite the codes mean nothing.
extern "C" __global__ void flowkit_field_scale(const float* __restrict__ flow,
                                               const int* __restrict__ largest,
                                               flowkit::Code* codes, int values, float unit,
                                               float limit) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const float per_px = 1.f / field_scale(__int_as_float(largest[blockIdx.y]), unit, limit);
  codes[at] = (Code)(int)fminf(fmaxf(rintf(flow[at] * per_px), -limit), limit);
}

// Twin: quantize.FixedStep. clipped [pairs]: set to 0 before; counts what saturates.
extern "C" __global__ void flowkit_fixed_step(const float* __restrict__ flow, flowkit::Code* codes,
                                              int* clipped, int values, float per_px,
                                              float limit) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const float scaled = rintf(flow[at] * per_px);
  if (fabsf(scaled) > limit) atomicAdd(&clipped[blockIdx.y], 1);
  codes[at] = (Code)(int)fminf(fmaxf(scaled, -limit), limit);
}

// Twin: quantize.BoundedRange, in double and in the same order, or codes at the halves would move.
extern "C" __global__ void flowkit_bounded_range(const float* __restrict__ flow,
                                                 unsigned char* codes, int* clipped, int values,
                                                 double bound) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const double value = flow[at];
  if (fabs(value) > bound) atomicAdd(&clipped[blockIdx.y], 1);
  const double scaled = rint((value + bound) * kU8Levels / (2.0 * bound));
  codes[at] = (unsigned char)(int)fmin(fmax(scaled, 0.0), kU8Levels);
}
