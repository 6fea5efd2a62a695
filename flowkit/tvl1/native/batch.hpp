// Many pairs out of a stack of frames, over threads.
#pragma once

#include "abi.h"
#include "kernels.hpp"

namespace flowkit {

// Solve every pair of the batch. Throws std::bad_alloc when memory runs out.
void solve_batch(const FlowkitParams& params, const FlowkitBatch& batch, const Kernels& kernels);

}  // namespace flowkit
