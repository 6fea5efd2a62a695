// Pyramids of frames, and the flow's way up between levels.
#pragma once

#include <cstdint>
#include <vector>

#include "abi.h"
#include "plane.hpp"
#include "resample.hpp"

namespace flowkit {

struct Size {
  int width, height;
};

// Sizes of all levels, the frame itself first (twin: reference.pyramid.level_sizes).
std::vector<Size> level_sizes(Size frame, const FlowkitParams& params);

// One grey frame as the caller gave it.
struct FrameView {
  const void* pixels;
  FlowkitDtype dtype;
  Size size;

  float at(int64_t index) const {
    return dtype == FLOWKIT_UINT8 ? static_cast<float>(static_cast<const uint8_t*>(pixels)[index])
                                  : static_cast<const float*>(pixels)[index];
  }
};

// An affine map of grey values: (value - low) * gain.
struct GreyMap {
  float low = 0, gain = 1;
};

// The map of the joint range of both frames to [0, 255] (twin:
// reference.steps.normalize_jointly).
GreyMap joint_normalisation(const FrameView& first, const FrameView& second);

// Levels of a frame, the frame itself first, each with the margins that `linearise` reads (twin:
// reference.pyramid.build_pyramid).
void build_pyramid(const FrameView& frame, const GreyMap& map, const FlowkitParams& params,
                   InterpolatePlanes interpolate, std::vector<Plane>& levels);

// The way up from one level to the next finer one.
class Upsampling {
 public:
  Upsampling(Size coarse, Size fine, const FlowkitParams& params, InterpolatePlanes interpolate);

  // Bring the flow to the finer level, in px of that level (twin: reference.pyramid.upsample_flow).
  void bring_flow(Plane* const (&coarse)[2], Plane* const (&fine)[2]) const;
  // The same of the dual variable (twin: reference.pyramid.upsample_dual).
  void bring_dual(Plane* const (&coarse)[4], Plane* const (&fine)[4]) const;

 private:
  AxisMap horizontal_, vertical_;
  float gain_;  // px of the finer level in one of the coarser
  InterpolatePlanes interpolate_;
};

}  // namespace flowkit
