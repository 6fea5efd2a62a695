// The kernels for what the compiler's own flags allow: SSE2 on x86-64, NEON on AArch64.

#include "kernels.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>  // not immintrin.h, which takes GCC .7 s to parse
#endif

namespace flowkit {
namespace {
#include "kernels.inc"
}

const Kernels* baseline_kernels() {
  static const Kernels kernels{"baseline", iterate, differentiate, linearise, weigh_edges, weighted_median, median5, interpolate_planes};
  return &kernels;
}

}  // namespace flowkit
