// Pyramids of frames, and the flow's way up between levels.
#pragma once

#include <cstdint>
#include <vector>

#include "abi.h"
#include "plane.hpp"

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
                   std::vector<Plane>& levels);

// Bring one component of the flow from `coarse` to the size of `fine`, in px of that level (twin:
// reference.pyramid.upsample_flow).
void upsample_flow(const Plane& coarse, Plane& fine, const FlowkitParams& params);

// The same of a component of the dual variable (twin: reference.pyramid.upsample_dual).
void upsample_dual(const Plane& coarse, Plane& fine, const FlowkitParams& params);

}  // namespace flowkit
