// The kernels for AVX-512 (F, DQ, BW and VL).

#include "kernels.hpp"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own _mm512_undefined_ps (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define FLOWKIT_ISA_AVX512 1

namespace flowkit {
#include "target_begin.inc"
namespace {
#include "kernels.inc"
}
#include "target_end.inc"

const Kernels* avx512_kernels() {
  static const Kernels kernels{"avx512", iterate, differentiate, linearise, weigh_edges, weighted_median, median5, interpolate_planes};
  return &kernels;
}

}  // namespace flowkit

#else

const flowkit::Kernels* flowkit::avx512_kernels() { return nullptr; }

#endif
