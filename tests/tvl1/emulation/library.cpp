// One source file of kernels as a host library. Compiled with FLOWKIT_SOURCE, the file, and
// FLOWKIT_KERNELS, a list of KERNEL(name).
#include "emulation.hpp"

#include <utility>

#include FLOWKIT_SOURCE

namespace {

// A kernel that takes its arguments as cuLaunchKernel does.
template <auto kKernel>
struct Entry;

template <class... Args, void (*kKernel)(Args...)>
struct Entry<kKernel> {
  static constexpr int kCount = sizeof...(Args);

  static void call(void** args) { expand(args, std::index_sequence_for<Args...>{}); }

  template <size_t... kIndex>
  static void expand(void** args, std::index_sequence<kIndex...>) {
    kKernel(*static_cast<Args*>(args[kIndex])...);
  }
};

}  // namespace

extern "C" const char* emulate(const char* name, const unsigned* grid, const unsigned* block,
                               int cluster_size, long long dynamic_bytes, void** args, int count) {
  using namespace emulation;
  Launch launch{{grid[0], grid[1], grid[2]},
                {block[0], block[1], block[2]},
                cluster_size,
                static_cast<size_t>(dynamic_bytes),
                nullptr,
                args};
#define KERNEL(entry) \
  if (std::strcmp(name, #entry) == 0 && count == Entry<entry>::kCount) \
    launch.kernel = Entry<entry>::call;
  FLOWKIT_KERNELS
#undef KERNEL
  return launch.kernel == nullptr ? no_kernel(name, count) : run(launch);
}

extern "C" void set_schedule(int kind, unsigned long long seed) {
  emulation::schedule.kind = static_cast<emulation::Schedule::Kind>(kind);
  emulation::schedule.state = seed * 2 + 1;
}
