// The instruction sets of this machine.

#include <cstring>

#include "kernels.hpp"

namespace flowkit {
namespace {

bool machine_has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool machine_has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#else
  return false;
#endif
}

}  // namespace

const Kernels* usable_kernels(int index) {
  const Kernels* const candidates[] = {machine_has_avx512() ? avx512_kernels() : nullptr,
                                       machine_has_avx2() ? avx2_kernels() : nullptr,
                                       baseline_kernels()};
  for (const Kernels* kernels : candidates) {
    if (kernels != nullptr && index-- == 0) return kernels;
  }
  return nullptr;
}

const Kernels* find_kernels(const char* name) {
  const Kernels* kernels = nullptr;
  for (int index = 0; (kernels = usable_kernels(index)) != nullptr; ++index) {
    if (name == nullptr || std::strcmp(name, kernels->name) == 0) return kernels;
  }
  return nullptr;
}

}  // namespace flowkit
