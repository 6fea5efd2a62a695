#include "abi.h"

#include <algorithm>
#include <new>

#include "batch.hpp"
#include "kernels.hpp"
#include "plane.hpp"
#include "pyramid.hpp"

namespace {

using flowkit::Plane;

// Offsets inside one plane are kept in int, in vectors as wide as those of floats.
bool is_too_large(int64_t height, int64_t width) {
  constexpr int64_t kMost = INT32_MAX;
  if (height > kMost / 2 || width > kMost / 2) return true;
  const int64_t stride = Plane::stride_of(static_cast<int>(width));
  return stride * (height + 2 * Plane::kMargin) > kMost;
}

bool is_valid(const FlowkitBatch& batch) {
  if (batch.height < 1 || batch.width < 1 || batch.threads < 1) return false;
  if (batch.frame_count < 0 || batch.pair_count < 0) return false;
  if (batch.dtype != FLOWKIT_UINT8 && batch.dtype != FLOWKIT_FLOAT32) return false;
  return std::all_of(batch.pairs, batch.pairs + 2 * batch.pair_count,
                     [&](int32_t frame) { return frame >= 0 && frame < batch.frame_count; });
}

}  // namespace

int32_t flowkit_tvl1_abi_version(void) { return FLOWKIT_TVL1_ABI_VERSION; }

const char* flowkit_tvl1_isa(int32_t index) {
  const flowkit::Kernels* const kernels = flowkit::usable_kernels(index);
  return kernels == nullptr ? nullptr : kernels->name;
}

int32_t flowkit_tvl1_levels(const FlowkitParams* params, int64_t height, int64_t width) {
  if (height < 1 || width < 1 || is_too_large(height, width)) return 0;
  const flowkit::Size size{static_cast<int>(width), static_cast<int>(height)};
  return static_cast<int32_t>(flowkit::level_sizes(size, *params).size());
}

int32_t flowkit_tvl1_solve(const FlowkitParams* params, const FlowkitBatch* batch) {
  if (!is_valid(*batch)) return FLOWKIT_INVALID_ARGUMENT;
  if (is_too_large(batch->height, batch->width)) return FLOWKIT_TOO_LARGE;
  const flowkit::Kernels* const kernels = flowkit::find_kernels(batch->isa);
  if (kernels == nullptr) return FLOWKIT_INVALID_ARGUMENT;
  try {
    flowkit::solve_batch(*params, *batch, *kernels);
  } catch (...) {  // nothing but memory can fail in there, and nothing may cross a C interface
    return FLOWKIT_OUT_OF_MEMORY;
  }
  return FLOWKIT_OK;
}
