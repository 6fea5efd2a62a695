#include "pyramid.hpp"

#include <algorithm>
#include <cmath>

#include "resample.hpp"

namespace flowkit {
namespace {

constexpr int kMinLevelSide = 16;  // params.MIN_LEVEL_SIDE_PX

int most_levels(Size frame, const FlowkitParams& params) {
  if (params.pyramid != FLOWKIT_GAUSSIAN) return params.nscales;
  const double diagonal = std::hypot(frame.height, frame.width);
  const double levels = 1 + std::log(diagonal / 16) / std::log(1 / params.scale_step);
  return std::max(1, static_cast<int>(std::min<double>(params.nscales, levels)));
}

int shrink(int side, const FlowkitParams& params) {
  switch (params.pyramid) {
    case FLOWKIT_PYRDOWN:
      return (side + 1) / 2;
    case FLOWKIT_GAUSSIAN:
      return std::max(1, static_cast<int>(side * params.scale_step + 0.5));
    default:
      return static_cast<int>(std::nearbyint(side * params.scale_step));
  }
}

void blur(Plane& image, double sigma, InterpolatePlanes interpolate) {
  if (sigma == 0) return;
  Plane blurred;
  resample(image, gaussian_axis(image.width(), sigma), gaussian_axis(image.height(), sigma),
           interpolate, blurred);
  std::swap(image, blurred);
}

// Twins: reference.pyramid.resize_bilinear, pyr_down, zoom_out.
void shrink_level(Plane& image, Size size, const FlowkitParams& params,
                  InterpolatePlanes interpolate, Plane& result) {
  const double stride = 1 / params.scale_step;
  const int width = image.width(), height = image.height();
  if (params.pyramid == FLOWKIT_PYRDOWN) {
    resample(image, pyr_down_axis(width), pyr_down_axis(height), interpolate, result);
  } else if (params.pyramid == FLOWKIT_GAUSSIAN) {
    const double sigma = 0.6 * std::sqrt(stride * stride - 1);
    Plane blurred;
    resample(image, gaussian_axis(width, sigma), gaussian_axis(height, sigma), interpolate,
             blurred);
    resample(blurred, cubic_axis(width, size.width, stride),
             cubic_axis(height, size.height, stride), interpolate, result);
  } else {
    resample(image, linear_axis(width, size.width, stride, 0.5),
             linear_axis(height, size.height, stride, 0.5), interpolate, result);
  }
}

}  // namespace

std::vector<Size> level_sizes(Size frame, const FlowkitParams& params) {
  std::vector<Size> sizes{frame};
  const int most = most_levels(frame, params);
  while (static_cast<int>(sizes.size()) < most) {
    const Size size{shrink(sizes.back().width, params), shrink(sizes.back().height, params)};
    const bool small = std::min(size.width, size.height) < kMinLevelSide;
    if (params.pyramid != FLOWKIT_GAUSSIAN && small) break;
    sizes.push_back(size);
  }
  return sizes;
}

GreyMap joint_normalisation(const FrameView& first, const FrameView& second) {
  const int64_t count = static_cast<int64_t>(first.size.width) * first.size.height;
  float low = first.at(0), high = low;
  for (const FrameView* frame : {&first, &second}) {
    for (int64_t i = 0; i < count; ++i) {
      low = std::min(low, frame->at(i));
      high = std::max(high, frame->at(i));
    }
  }
  return high > low ? GreyMap{low, 255 / (high - low)} : GreyMap{};
}

void build_pyramid(const FrameView& frame, const GreyMap& map, const FlowkitParams& params,
                   InterpolatePlanes interpolate, std::vector<Plane>& levels) {
  const std::vector<Size> sizes = level_sizes(frame.size, params);
  levels.resize(sizes.size());
  Plane& base = levels[0];
  base.reshape(frame.size.width, frame.size.height);
  for (int y = 0; y < base.height(); ++y) {
    const int64_t start = static_cast<int64_t>(y) * base.width();
    float* const row = base.row(y);
    for (int x = 0; x < base.width(); ++x) row[x] = (frame.at(start + x) - map.low) * map.gain;
  }
  blur(base, params.presmooth_sigma, interpolate);
  for (size_t k = 1; k < sizes.size(); ++k) {
    shrink_level(levels[k - 1], sizes[k], params, interpolate, levels[k]);
  }
  for (Plane& level : levels) level.repeat_edges(Plane::kMargin);
}

Upsampling::Upsampling(Size coarse, Size fine, const FlowkitParams& params,
                       InterpolatePlanes interpolate)
    : gain_(static_cast<float>(1 / params.scale_step)), interpolate_(interpolate) {
  const double across = static_cast<double>(coarse.width) / fine.width;
  const double down = static_cast<double>(coarse.height) / fine.height;
  if (params.pyramid == FLOWKIT_GAUSSIAN) {
    horizontal_ = cubic_axis(coarse.width, fine.width, across);
    vertical_ = cubic_axis(coarse.height, fine.height, down);
  } else {
    const double shift = params.pyramid == FLOWKIT_PYRDOWN ? 0 : 0.5;
    horizontal_ = linear_axis(coarse.width, fine.width, across, shift);
    vertical_ = linear_axis(coarse.height, fine.height, down, shift);
  }
}

void Upsampling::bring_flow(Plane* const (&coarse)[2], Plane* const (&fine)[2]) const {
  resample(coarse, 2, horizontal_, vertical_, gain_, interpolate_, fine);
}

void Upsampling::bring_dual(Plane* const (&coarse)[4], Plane* const (&fine)[4]) const {
  resample(coarse, 4, horizontal_, vertical_, 1, interpolate_, fine);
}

}  // namespace flowkit
