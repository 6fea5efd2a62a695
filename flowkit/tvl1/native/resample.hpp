// Blurring and resampling of whole planes, separably. Plain code: it runs once per frame and level.
#pragma once

#include <vector>

#include "plane.hpp"

namespace flowkit {

// Along one axis, output i is sum_k weights[i * taps + k] * input[index[i * taps + k]].
struct AxisMap {
  int taps = 0;
  std::vector<int> index;
  std::vector<float> weight;

  int length() const { return static_cast<int>(index.size()) / taps; }
};

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
// from the maps; it must not be `image`.
void resample(const Plane& image, const AxisMap& horizontal, const AxisMap& vertical, float gain,
              Plane& result);

}  // namespace flowkit
