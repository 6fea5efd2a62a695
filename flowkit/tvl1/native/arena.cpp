#include "arena.hpp"

#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace flowkit {
namespace {

#if defined(FLOWKIT_SEPARATE_PLANES)
// Under a sanitizer: each plane by itself, so that an access beyond it is found.
constexpr size_t kPage = 64, kHugePage = 64, kChunk = 0;
#else
constexpr size_t kPage = size_t{4} << 10, kHugePage = size_t{2} << 20;
// Huge pages of it that nobody touches take no memory.
constexpr size_t kChunk = size_t{32} << 20;
#endif

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// A dozen planes are read beside each other, with an entry of the translation buffer for every 4 KiB
// of each: more than a processor keeps. The call is a hint: refused, the same memory is slower.
std::shared_ptr<char> allocate(size_t bytes) {
  const size_t whole = round_up(bytes, kHugePage);
  std::shared_ptr<char> memory(static_cast<char*>(std::aligned_alloc(kHugePage, whole)), std::free);
  if (!memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  madvise(memory.get(), whole, MADV_HUGEPAGE);
#endif
  return memory;
}

struct Chunk {
  std::shared_ptr<char> memory;
  size_t used = 0;
};

}  // namespace

std::shared_ptr<float> take_floats(size_t count) {
  thread_local Chunk chunk;
  const size_t bytes = round_up(count * sizeof(float), kPage);
  if (bytes > kChunk) {
    const std::shared_ptr<char> own = allocate(bytes);
    return {own, reinterpret_cast<float*>(own.get())};
  }
  if (chunk.memory.use_count() == 1) chunk.used = 0;
  if (!chunk.memory || chunk.used + bytes > kChunk) chunk = {allocate(kChunk), 0};
  char* const start = chunk.memory.get() + chunk.used;
  chunk.used += bytes;
  return {chunk.memory, reinterpret_cast<float*>(start)};
}

}  // namespace flowkit
