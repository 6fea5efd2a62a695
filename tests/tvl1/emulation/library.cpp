// One source file of kernels as a host library. Compiled with FLOWKIT_SOURCE, the file, and
// FLOWKIT_KERNELS, a list of KERNEL(name).
#include "emulation.hpp"

#include <utility>

#include FLOWKIT_SOURCE

namespace {

// Call a kernel with arguments given as cuLaunchKernel takes them.
template <class... Args, size_t... kIndex>
void call(void (*kernel)(Args...), void** args, std::index_sequence<kIndex...>) {
  kernel(*static_cast<Args*>(args[kIndex])...);
}

template <class... Args>
std::function<void()> bind_arguments(void (*kernel)(Args...), void** args, int count) {
  if (count != static_cast<int>(sizeof...(Args))) return nullptr;
  return [=] { call(kernel, args, std::index_sequence_for<Args...>{}); };
}

}  // namespace

extern "C" const char* emulate(const char* name, const unsigned* grid, const unsigned* block,
                               int cluster_size, long long dynamic_bytes, void** args, int count) {
  using namespace emulation;
  Launch launch{{grid[0], grid[1], grid[2]},
                {block[0], block[1], block[2]},
                cluster_size,
                static_cast<size_t>(dynamic_bytes),
                nullptr};
  const std::string wanted = name;
#define KERNEL(entry) \
  if (wanted == #entry) launch.kernel = bind_arguments(entry, args, count);
  FLOWKIT_KERNELS
#undef KERNEL
  if (!launch.kernel) {
    failure = "no kernel " + wanted + " with " + std::to_string(count) + " arguments";
    return failure.c_str();
  }
  return run(launch) ? nullptr : failure.c_str();
}

extern "C" void set_schedule(int kind, unsigned long long seed) {
  emulation::schedule.kind = static_cast<emulation::Schedule::Kind>(kind);
  emulation::schedule.state = seed * 2 + 1;
}
