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
  // Flow and dual variable of the level before: u1, u2, q11, q12, q21, q22.
  Plane coarse[6] = {Plane{0}, Plane{1}, Plane{2}, Plane{3}, Plane{4}, Plane{5}};
  Plane filtered{14}, columns;   // for the median, and for edge weights
  WeightedMedian weighted;
  Blocks blocks;
};

// Solve one pair from its two pyramids. `flow` gets (2, height, width) px; `iterations`, unless
// null, the count of each level and warp, the coarsest level first.
void solve_pair(const std::vector<Plane>& pyramid0, const std::vector<Plane>& pyramid1,
                const FlowkitParams& params, const Kernels& kernels, Workspace& work, float* flow,
                int32_t* iterations);

}  // namespace flowkit
