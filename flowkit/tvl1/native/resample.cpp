#include "resample.hpp"

#include <algorithm>
#include <cmath>

namespace flowkit {
namespace {

AxisMap make_axis(int length, int taps) {
  AxisMap map;
  map.taps = taps;
  map.length = length;
  map.indices.resize(static_cast<size_t>(length) * taps);
  map.weights.resize(map.indices.size());
  return map;
}

// Mirror about pixel 0 and about the outer edge of the last pixel: IPOL's border (mask.c).
int ipol_mirror(int i, int side) {
  while (i < 0 || i >= side) {
    i = std::abs(i);
    if (i >= side) i = 2 * side - 1 - i;
  }
  return i;
}

// Mirror about the centres of both edge pixels (BORDER_REFLECT_101).
int edge_mirror(int i, int side) {
  if (side == 1) return 0;
  while (i < 0 || i >= side) i = i < 0 ? -i : 2 * (side - 1) - i;
  return i;
}

// One row through the horizontal map.
void resample_row(const float* row, const AxisMap& map, float* result) {
  const int* const index = map.index(0);
  const float* const weight = map.weight(0);
  const ptrdiff_t length = map.length, end = map.taps * length;
  for (ptrdiff_t x = 0; x < length; ++x) {
    float value = weight[x] * row[index[x]];
    for (ptrdiff_t k = x + length; k < end; k += length) value += weight[k] * row[index[k]];
    result[x] = value;
  }
}

TwoTaps two_taps(const AxisMap& map) {
  return {map.index(0), map.index(1), map.weight(0), map.weight(1), map.length};
}

// Row y through the vertical map: the weighted sum of some rows, two of them a pass.
void add_rows(const Plane& image, const AxisMap& map, int y, float gain, float* result) {
  const int width = image.width();
  for (int k = 0; k < map.taps; k += 2) {
    const bool pair = k + 1 < map.taps;
    const float* const first = image.row(map.index(k)[y]);
    const float* const second = image.row(map.index(k + pair)[y]);
    const float w0 = gain * map.weight(k)[y], w1 = pair ? gain * map.weight(k + 1)[y] : 0;
    if (k == 0) {
      for (int x = 0; x < width; ++x) result[x] = w0 * first[x] + w1 * second[x];
    } else {
      for (int x = 0; x < width; ++x) result[x] = (result[x] + w0 * first[x]) + w1 * second[x];
    }
  }
}

}  // namespace

AxisMap linear_axis(int side, int length, double stride, double shift) {
  AxisMap map = make_axis(length, 2);
  for (int i = 0; i < length; ++i) {
    const double at = std::clamp((i + shift) * stride - shift, 0.0, side - 1.0);
    const int left = static_cast<int>(at);
    map.index(0)[i] = left;
    map.index(1)[i] = std::min(left + 1, side - 1);
    map.weight(1)[i] = static_cast<float>(at - left);
    map.weight(0)[i] = 1 - map.weight(1)[i];
  }
  return map;
}

AxisMap cubic_axis(int side, int length, double stride) {
  const double a = -0.5;  // IPOL's zoom, whatever the warp uses
  AxisMap map = make_axis(length, 4);
  for (int i = 0; i < length; ++i) {
    const double at = std::min(i * stride, side + 2.0);
    const int left = static_cast<int>(at);
    const double t = at - left;
    const double weights[4] = {a * t * (1 - t) * (1 - t), 1 + t * t * ((a + 2) * t - (a + 3)),
                               t * (-a + t * ((2 * a + 3) - (a + 2) * t)), a * t * t * (1 - t)};
    for (int k = 0; k < 4; ++k) {
      map.index(k)[i] = std::clamp(left + k - 1, 0, side - 1);
      map.weight(k)[i] = static_cast<float>(weights[k]);
    }
  }
  return map;
}

AxisMap pyr_down_axis(int side) {
  const float weights[5] = {1 / 16.f, 4 / 16.f, 6 / 16.f, 4 / 16.f, 1 / 16.f};
  AxisMap map = make_axis((side + 1) / 2, 5);
  for (int i = 0; i < map.length; ++i) {
    for (int k = 0; k < 5; ++k) {
      map.index(k)[i] = edge_mirror(2 * i + k - 2, side);
      map.weight(k)[i] = weights[k];
    }
  }
  return map;
}

AxisMap gaussian_axis(int side, double sigma) {
  const int radius = static_cast<int>(5 * sigma), taps = 2 * radius + 1;
  std::vector<double> kernel(static_cast<size_t>(taps));
  double total = 0;
  for (int k = 0; k < taps; ++k) {
    const double offset = k - radius;
    kernel[k] = std::exp(-offset * offset / (2 * sigma * sigma));
    total += kernel[k];
  }
  AxisMap map = make_axis(side, taps);
  for (int i = 0; i < side; ++i) {
    for (int k = 0; k < taps; ++k) {
      map.index(k)[i] = ipol_mirror(i + k - radius, side);
      map.weight(k)[i] = static_cast<float>(kernel[k] / total);
    }
  }
  return map;
}

void resample(Plane* const* images, int count, const AxisMap& horizontal, const AxisMap& vertical,
              float gain, InterpolatePlanes interpolate, Plane* const* results) {
  const bool linear = horizontal.taps == 2 && vertical.taps == 2;
  thread_local Plane narrowed;  // kept from call to call, as batch.cpp does with its memory
  narrowed.reshape(horizontal.length, linear ? 8 : images[0]->height());
  for (int k = 0; k < count; ++k) results[k]->reshape(horizontal.length, vertical.length);
  if (linear) {
    interpolate(images, count, two_taps(horizontal), two_taps(vertical), gain, narrowed, results);
    return;
  }
  for (int k = 0; k < count; ++k) {
    for (int y = 0; y < images[k]->height(); ++y) {
      resample_row(images[k]->row(y), horizontal, narrowed.row(y));
    }
    for (int y = 0; y < vertical.length; ++y) {
      add_rows(narrowed, vertical, y, gain, results[k]->row(y));
    }
  }
}

void resample(Plane& image, const AxisMap& horizontal, const AxisMap& vertical,
              InterpolatePlanes interpolate, Plane& result) {
  Plane *const from = &image, *const to = &result;
  resample(&from, 1, horizontal, vertical, 1, interpolate, &to);
}

}  // namespace flowkit
