// How fast one iteration can be: throughput of sqrt, division and multiply-add on this machine, and
// what the engine's inner loop takes with its data in the second-level cache. Prints JSON.
// Built and run by bench_tvl1.py with g++, once per vector width: -DFLOWKIT_BENCH_LANES=16 | 8 | 4.

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "kernels.hpp"

#if FLOWKIT_BENCH_LANES == 16
#define FLOWKIT_ISA_AVX512 1
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#elif FLOWKIT_BENCH_LANES == 8
#define FLOWKIT_ISA_AVX2 1
#pragma GCC target("avx2,fma")
#endif
#include "simd.hpp"

namespace {

constexpr const char* kIsa = kLanes == 16 ? "avx512" : kLanes == 8 ? "avx2" : "baseline";

using Clock = std::chrono::steady_clock;

// Enough independent chains to hide every latency.
constexpr int kChains = 10;
constexpr int kRounds = 200000;

struct Sqrt {
  FLOWKIT_INLINE Vec apply(Vec v, Vec) { return sqrt(v); }
};
struct Divide {
  FLOWKIT_INLINE Vec apply(Vec v, Vec other) { return other / v; }
};
struct MultiplyAdd {
  FLOWKIT_INLINE Vec apply(Vec v, Vec other) { return v * other + other; }
};

// Nanoseconds per vector; the best of some runs.
template <typename Operation>
double throughput() {
  double best = 1e9;
  for (int run = 0; run < 9; ++run) {
    Vec v[kChains];
    for (int i = 0; i < kChains; ++i) v[i] = splat(1.f + static_cast<float>(i));
    Vec other = splat(.999f);
    asm volatile("" : "+m"(other));  // not a constant
    const auto start = Clock::now();
    for (int round = 0; round < kRounds; ++round) {
      for (int i = 0; i < kChains; ++i) v[i] = Operation::apply(v[i], other);
    }
    const std::chrono::duration<double, std::nano> taken = Clock::now() - start;
    for (int i = 0; i < kChains; ++i) asm volatile("" : : "m"(v[i]));  // the results are wanted
    best = std::min(best, taken.count() / (static_cast<double>(kRounds) * kChains));
  }
  return best;
}

// Nanoseconds per pixel and iteration on a level of a 320x240 frame.
double inner_loop(const flowkit::Kernels& kernels) {
  const int width = 320, height = 240, iterations = 10;
  flowkit::Fields fields;
  for (flowkit::Plane* plane : {&fields.u1, &fields.u2, &fields.q11, &fields.q12, &fields.q21,
                                &fields.q22, &fields.a, &fields.b, &fields.c, &fields.limit}) {
    plane->reshape(width, height);
    plane->clear();
    unsigned state = 1;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        state = state * 1664525u + 1013904223u;
        plane->row(y)[x] = .01f * static_cast<float>(state >> 24);
      }
    }
  }
  fields.tau = .25f;
  fields.taut = .25f / .3f;
  flowkit::Blocks blocks;
  blocks.start(fields.u1);
  fields.blocks = blocks.view();
  double best = 1e9;
  for (int run = 0; run < 60; ++run) {
    const auto start = Clock::now();
    kernels.iterate(fields, iterations, true);
    const std::chrono::duration<double, std::nano> taken = Clock::now() - start;
    best = std::min(best, taken.count() / (static_cast<double>(width) * height * iterations));
  }
  return best;
}

}  // namespace

int main() {
  const flowkit::Kernels* const kernels = flowkit::find_kernels(kIsa);
  if (kernels == nullptr) return 1;
  std::printf(
      "{\"isa\": \"%s\", \"lanes\": %d, \"sqrt_ns\": %.4f, \"divide_ns\": %.4f, "
      "\"multiply_add_ns\": %.4f, \"inner_loop_ns_per_px\": %.4f}\n",
      kernels->name, kLanes, throughput<Sqrt>(), throughput<Divide>(), throughput<MultiplyAdd>(),
      inner_loop(*kernels));
}
