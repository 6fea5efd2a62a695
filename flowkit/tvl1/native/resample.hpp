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
  int length;
};

// `count` planes of one size through such maps, scaled by `gain`; `lines` is scratch, eight rows of the
// result's width. Some are taken together, so that the maps are read once for them.
using InterpolatePlanes = void (*)(Plane* const* images, int count, const TwoTaps& across,
                                   const TwoTaps& down, float gain, Plane& lines,
                                   Plane* const* results);

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

// Apply one map along each axis to `count` images of one size, horizontal first, and scale the values.
// The results get their size from the maps; none may be an image. `interpolate` does maps of two taps.
void resample(Plane* const* images, int count, const AxisMap& horizontal, const AxisMap& vertical,
              float gain, InterpolatePlanes interpolate, Plane* const* results);

// The same of one image, unscaled.
void resample(Plane& image, const AxisMap& horizontal, const AxisMap& vertical,
              InterpolatePlanes interpolate, Plane& result);

}  // namespace flowkit
