// One pair of frames: levels, warps, the stopping rule.
#pragma once

#include <cstdint>
#include <vector>

#include "abi.h"
#include "kernels.hpp"

namespace flowkit {

// Memory that one thread uses again from pair to pair.
struct Workspace {
  Fields fields;
  Plane coarse1{0}, coarse2{1};  // the flow of the level before
  Plane filtered{14}, columns;   // for the median, and for edge weights
  WeightedMedian weighted;
};

// Solve one pair from its two pyramids. `flow` gets (2, height, width) px; `iterations`, unless
// null, the count of each level and warp, the coarsest level first.
void solve_pair(const std::vector<Plane>& pyramid0, const std::vector<Plane>& pyramid1,
                const FlowkitParams& params, const Kernels& kernels, Workspace& work, float* flow,
                int32_t* iterations);

}  // namespace flowkit
