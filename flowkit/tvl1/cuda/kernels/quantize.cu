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

// A digit of the bits of a positive float, and the bins that count its values.
constexpr int kBins = 2048, kGroups = 32, kGroupBins = kBins / kGroups;

// Find the bin of the value that `found[1]` counted ones exceed; keep in `found` the bin, -1 where
// there are no more counted ones than that, and how many in the same bin exceed it.
FLOWKIT_DEVICE void find_bin(const int* counts, int* sums, int* found) {
  if (threadIdx.x < kGroups) {
    int sum = 0;
    for (int i = 0; i < kGroupBins; ++i) sum += counts[threadIdx.x * kGroupBins + i];
    sums[threadIdx.x] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int greater = found[1], group = kGroups - 1;
    while (group >= 0 && greater >= sums[group]) greater -= sums[group--];
    int bin = group * kGroupBins + kGroupBins - 1;
    while (group >= 0 && greater >= counts[bin]) greater -= counts[bin--];
    found[0] = group >= 0 ? bin : -1;
    found[1] = greater;
  }
  __syncthreads();
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

// Twin: quantize.FieldScale.scale_px: the least 2^k units, k >= 0, that clip nothing. scales
// [pairs]; the grid covers the pairs.
extern "C" __global__ void flowkit_field_scales(const int* __restrict__ largest, float* scales,
                                                int pairs, float unit, float limit) {
  const int pair = blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= pairs) return;
  const float most = __int_as_float(largest[pair]);
  float scale = unit;
  while (limit * scale < most && scale < 1e36f) scale *= 2.f;
  scales[pair] = scale;
}

// Twin: quantize.QuantileScale. scales [pairs]; one block a pair. q, which `greater` components
// exceed, is found digit by digit of its bits, the first digit first: counts are whole numbers, so
// that no order of threads changes them. A pair without a large component is left at once.
extern "C" __global__ void flowkit_quantile_scales(const float* __restrict__ flow,
                                                   const int* __restrict__ largest, float* scales,
                                                   int values, int greater, float unit,
                                                   float limit, float quantile_code) {
  using namespace flowkit;
  FLOWKIT_SHARED(int, counts, kBins);
  FLOWKIT_SHARED(int, sums, kGroups);
  FLOWKIT_SHARED(int, found, 2);
  const float most = __int_as_float(largest[blockIdx.x]);
  if (threadIdx.x == 0) {
    scales[blockIdx.x] = unit;
    found[1] = greater;
  }
  if (most <= limit * unit) return;
  const float* const own = flow + (int64)blockIdx.x * values;
  // A smaller q leaves the unit.
  const int least = __float_as_int(unit * quantile_code);
  int digits = 0;
  for (int shift = 20, bits = 11; shift >= 0; shift -= 10, bits = 10) {
    for (int i = threadIdx.x; i < kBins; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < values; i += blockDim.x) {
      const int value = __float_as_int(own[i]) & 0x7fffffff;
      if (value > least && value >> (shift + bits) == digits) {
        atomicAdd(&counts[(value >> shift) & ((1 << bits) - 1)], 1);
      }
    }
    __syncthreads();
    find_bin(counts, sums, found);
    if (found[0] < 0) return;
    digits = (digits << bits) | found[0];
  }
  if (threadIdx.x == 0) {
    scales[blockIdx.x] = fmaxf(unit, fminf(most / limit, __int_as_float(digits) / quantile_code));
  }
}

// Twin: quantize._scaled_codes. clipped [pairs]: set to 0 before; counts what saturates. Where the
// largest component of a pair is not finite its codes mean nothing.
extern "C" __global__ void flowkit_scaled_codes(const float* __restrict__ flow,
                                                const float* __restrict__ scales,
                                                flowkit::Code* codes, int* clipped, int values,
                                                float limit) {
  using namespace flowkit;
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= values) return;
  const int64 at = (int64)blockIdx.y * values + i;
  const float scaled = rintf(flow[at] * (1.f / scales[blockIdx.y]));
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
