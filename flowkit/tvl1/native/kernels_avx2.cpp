// The kernels for AVX2 and FMA.

#include "kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define FLOWKIT_ISA_AVX2 1

namespace flowkit {
#include "target_begin.inc"
namespace {
#include "kernels.inc"
}
#include "target_end.inc"

const Kernels* avx2_kernels() {
  static const Kernels kernels{"avx2", iterate, differentiate, linearise, weigh_edges, weighted_median, median5, interpolate_planes};
  return &kernels;
}

}  // namespace flowkit

#else

const flowkit::Kernels* flowkit::avx2_kernels() { return nullptr; }

#endif
