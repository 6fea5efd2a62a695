// The kernels' needs beyond CUDA's C++: fast reciprocals and the storage of shared memory. The
// host emulation (tests/tvl1/emulation) defines FLOWKIT_EMULATED and brings its own.
#pragma once

#define FLOWKIT_DEVICE __device__ __forceinline__
#define FLOWKIT_UNROLL _Pragma("unroll")
#define FLOWKIT_NO_UNROLL _Pragma("unroll 1")

namespace flowkit {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

}  // namespace flowkit

#ifndef FLOWKIT_EMULATED

typedef long long int64;

// Shared memory of a size known to the compiler, and of the size that the launch gives, which must
// be at least `bytes`.
#define FLOWKIT_SHARED(type, name, count) __shared__ type name[count]
#define FLOWKIT_DYNAMIC_SHARED(name, bytes) extern __shared__ __align__(16) char name[]

namespace flowkit {

// Within 2 units in the last place, numbers below 1e-38 counted as zero: one instruction each.
FLOWKIT_DEVICE float square_root(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

FLOWKIT_DEVICE float reciprocal_root(float x) {
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

FLOWKIT_DEVICE float reciprocal(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

}  // namespace flowkit

#endif
