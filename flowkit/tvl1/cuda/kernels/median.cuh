// 5x5 median of the flow at one pixel with repeated borders (twin: reference.steps.median_5x5).
#pragma once

#include "linearise.cuh"

namespace flowkit {

FLOWKIT_DEVICE void order(float& low, float& high) {
  const float smaller = fminf(low, high);
  high = fmaxf(low, high);
  low = smaller;
}

// Move the smallest of the first kCount values to the front and the largest to their end.
template <int kCount>
FLOWKIT_DEVICE void extremes_outwards(float (&v)[14]) {
  FLOWKIT_UNROLL for (int i = 0; i < kCount / 2; ++i) order(v[i], v[kCount - 1 - i]);
  FLOWKIT_UNROLL for (int i = 1; i < (kCount + 1) / 2; ++i) order(v[0], v[i]);
  FLOWKIT_UNROLL for (int i = kCount / 2; i < kCount - 1; ++i) order(v[i], v[kCount - 1]);
}

// Median by forgetting: of 14 of the 25 values neither the smallest nor the largest can be the
// median; drop both, take one new value in, and so on (Paeth, Graphics Gems I, 1990).
template <int kCount>
FLOWKIT_DEVICE void forget(float (&v)[14], const float (&waiting)[11]) {
  extremes_outwards<kCount>(v);
  if constexpr (kCount > 3) {
    v[0] = waiting[14 - kCount];
    forget<kCount - 1>(v, waiting);
  }
}

FLOWKIT_DEVICE float median_of_25(const float (&values)[25]) {
  float kept[14], waiting[11];
  FLOWKIT_UNROLL for (int i = 0; i < 14; ++i) kept[i] = values[i];
  FLOWKIT_UNROLL for (int i = 0; i < 11; ++i) waiting[i] = values[14 + i];
  forget<14>(kept, waiting);
  return kept[1];
}

FLOWKIT_DEVICE float2 median_5x5(const float2* __restrict__ u, int width, int height, int x,
                                 int y) {
  float first[25], second[25];
  FLOWKIT_UNROLL for (int r = 0; r < 5; ++r) {
    const float2* const row = u + (int64)clamp_index(y + r - 2, height) * width;
    FLOWKIT_UNROLL for (int c = 0; c < 5; ++c) {
      const float2 value = row[clamp_index(x + c - 2, width)];
      first[5 * r + c] = value.x;
      second[5 * r + c] = value.y;
    }
  }
  float2 result;
  result.x = median_of_25(first);
  result.y = median_of_25(second);
  return result;
}

}  // namespace flowkit
