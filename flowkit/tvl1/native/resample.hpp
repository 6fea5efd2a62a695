// Blurring and resampling of whole planes, separably. Plain code: it runs once per frame and level.
#pragma once

#include <cstddef>
#include <vector>

#include "plane.hpp"

namespace flowkit {

// Along one axis, output i is sum_k weight(k)[i] * input[index(k)[i]].
struct AxisMap {
  int taps = 0, length = 0;
  std::vector<int> indices;    // length of them for each tap
  std::vector<float> weights;  // the same

  int* index(int tap) { return indices.data() + static_cast<ptrdiff_t>(tap) * length; }
  float* weight(int tap) { return weights.data() + static_cast<ptrdiff_t>(tap) * length; }
  const int* index(int tap) const { return indices.data() + static_cast<ptrdiff_t>(tap) * length; }
  const float* weight(int tap) const {
    return weights.data() + static_cast<ptrdiff_t>(tap) * length;
  }
};

// A map of two taps, of which index1 is index0 + 1 or, at the end, index0.
struct TwoTaps {
  const int *index0, *index1;
  const float *weight0, *weight1;
};

// One row through such a map; the row is followed by memory that may be read.
using InterpolateRow = void (*)(const float* row, const TwoTaps& taps, int length, float* result);

// Bilinear samples of an axis of `side` pixels at (i + shift) * stride - shift, clamped to it
// (twin: reference.sampling.sample_axis_linear).
AxisMap linear_axis(int side, int length, double stride, double shift);

// Bicubic samples at i * stride; taps outside take the edge (twin:
// reference.sampling.sample_bicubic).
AxisMap cubic_axis(int side, int length, double stride);

// Blur with (1, 4, 6, 4, 1) / 16, mirrored about the edge pixel, and keep every second pixel (twin:
// reference.pyramid.pyr_down).
AxisMap pyr_down_axis(int side);

// Blur with a Gaussian cut at five sigma (twin: reference.pyramid.gaussian_blur).
AxisMap gaussian_axis(int side, double sigma);

// Apply one map along each axis, horizontal first, and scale the values. `result` gets its size
// from the maps; it must not be `image`. `interpolate_row`, unless null, does rows of two taps.
void resample(const Plane& image, const AxisMap& horizontal, const AxisMap& vertical, float gain,
              Plane& result, InterpolateRow interpolate_row = nullptr);

}  // namespace flowkit
