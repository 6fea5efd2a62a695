// Runs CUDA C++ kernels on the host: every CUDA thread is a fibre, and barriers, warp shuffles,
// clusters and mbarriers are real rendezvous between fibres.
//
// Fibres are interleaved by a schedule: in turn, last come first served, or at random but
// repeatable. Kernels that lack a barrier survive the first and fail under the others. Blocks (or
// clusters) run one after another; under the random schedule, a few blocks at once. Shared memory
// starts as NaN. Nothing hangs: when every fibre waits, or after too many switches, the launch ends
// with an error. Every kernel is compiled with this header, so that it includes little.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#define FLOWKIT_EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define FLOWKIT_SHARED(type, name, count) \
  type* const name = reinterpret_cast<type*>(emulation::shared_slot(sizeof(type) * (count)))
#define FLOWKIT_DYNAMIC_SHARED(name, bytes) char* const name = emulation::dynamic_shared(bytes)

template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
using int64 = long long;

struct int2 {
  int x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
};

namespace emulation {

struct Barrier {
  uint64_t generation = 0;
  int arrived = 0;
};

// A barrier in shared memory that also waits for bytes on their way (PTX: mbarrier).
// As large as the GPU's, so that a block needs as much shared memory here as there.
struct alignas(8) TransactionBarrier {
  short expected, pending;
  int bytes : 31;
  unsigned phase : 1;
};
static_assert(sizeof(TransactionBarrier) == 8, "an mbarrier has 8 bytes");

struct Block;

struct Fibre {
  ucontext_t entry;
  jmp_buf point;
  bool started = false, done = false;
  dim3 thread;
  int lane, warp;
  Block* block;
  size_t shared_used = 0, stack = 0;
  uint64_t cluster_generation = 0, shuffles = 0;
  // What it waits for, if anything.
  const Barrier* barrier = nullptr;
  uint64_t generation = 0;
  const TransactionBarrier* transaction = nullptr;
  int phase = 0;

  bool waits() const {
    return (barrier != nullptr && barrier->generation == generation) ||
           (transaction != nullptr && transaction->phase == phase);
  }
};

struct Warp {
  Barrier barrier;
  uint32_t slots[2][32];
};

struct Cluster;

struct Block {
  dim3 index;
  int rank, threads, running;
  Cluster* cluster;
  Barrier barrier;
  Warp* warps;
  char* shared;
  size_t shared_bytes, dynamic_bytes;
};

struct Cluster {
  Barrier barrier;
  int threads = 0;
};

struct Schedule {
  enum Kind { kInTurn = 0, kLastFirst = 1, kRandom = 2 } kind = kInTurn;
  uint64_t state = 1;
  uint64_t draw() {  // xorshift
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
  }
};

struct Launch {
  dim3 grid, block;
  int cluster_size;  // 0 for kernels that know nothing of clusters
  size_t dynamic_bytes;
  void (*kernel)(void** args);
  void** args;
};

extern Fibre* current;
extern dim3 block_size, grid_size;
extern Schedule schedule;

// Leave the current fibre until its wait is over.
void pause();
// End the launch with an error; does not return.
[[noreturn]] void fail(const char* what);
void arrive_and_wait(Barrier& barrier, int threads);
uint64_t arrive(Barrier& barrier, int threads);
void wait(const Barrier& barrier, uint64_t generation);
void complete_bytes(TransactionBarrier* barrier, int bytes);
// The shared memory of the block of this rank in the current cluster.
char* shared_of(int rank);
// Store to another block's shared memory, where it arrives later.
void send(char* target, float2 value, int bytes, TransactionBarrier* barrier);
// Run all blocks; return the error if it does not end.
const char* run(const Launch& launch);
// Return the error of a launch of what is no kernel.
const char* no_kernel(const char* name, int args);

inline char* dynamic_shared(size_t bytes) {
  if (bytes > current->block->dynamic_bytes) fail("the launch gives too little shared memory");
  return current->block->shared;
}
inline char* shared_slot(size_t bytes) {
  Block& block = *current->block;
  char* const slot = block.shared + block.dynamic_bytes + current->shared_used;
  current->shared_used += (bytes + 15) & ~size_t{15};
  if (block.dynamic_bytes + current->shared_used > block.shared_bytes)
    fail("shared memory used up");
  return slot;
}

template <class T>
T shuffle(T value, int source) {
  static_assert(sizeof(T) == 4);
  Warp& warp = current->block->warps[static_cast<size_t>(current->warp)];
  uint32_t* const slots = warp.slots[current->shuffles++ & 1];
  std::memcpy(&slots[current->lane], &value, 4);
  arrive_and_wait(warp.barrier, 32);
  std::memcpy(&value, &slots[source], 4);
  return value;
}

}  // namespace emulation

#define threadIdx (emulation::current->thread)
#define blockIdx (emulation::current->block->index)
#define blockDim (emulation::block_size)
#define gridDim (emulation::grid_size)

inline void __syncthreads() {
  emulation::Block& block = *emulation::current->block;
  emulation::arrive_and_wait(block.barrier, block.threads);
}
inline void __syncwarp(unsigned = ~0u) {
  auto& warp = emulation::current->block->warps[static_cast<size_t>(emulation::current->warp)];
  emulation::arrive_and_wait(warp.barrier, 32);
}
inline void __threadfence() {}

template <class T>
T __shfl_up_sync(unsigned, T value, int delta) {
  const int lane = emulation::current->lane;
  return emulation::shuffle(value, lane >= delta ? lane - delta : lane);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int delta) {
  const int lane = emulation::current->lane;
  return emulation::shuffle(value, lane + delta < 32 ? lane + delta : lane);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::shuffle(value, emulation::current->lane ^ mask);
}

template <class T>
T __ldcg(const T* p) {
  return *p;
}
inline int atomicAdd(int* p, int value) { return (*p += value) - value; }
inline int atomicSub(int* p, int value) { return (*p -= value) + value; }
inline int atomicMin(int* p, int value) {
  const int before = *p;
  *p = min(before, value);
  return before;
}
inline int atomicMax(int* p, int value) {
  const int before = *p;
  *p = max(before, value);
  return before;
}
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

namespace flowkit {

inline float square_root(float x) { return std::sqrt(x); }
inline float reciprocal(float x) { return 1.f / x; }
inline float reciprocal_root(float x) { return 1.f / std::sqrt(x); }

// Clusters (kernels/cluster.cuh).

using TransactionBarrier = emulation::TransactionBarrier;

struct RemoteAddress {
  char* p;
};

inline int cluster_rank() { return emulation::current->block->rank; }
inline void synchronize_cluster() {
  emulation::Cluster& cluster = *emulation::current->block->cluster;
  emulation::arrive_and_wait(cluster.barrier, cluster.threads);
}
inline void init_barrier(TransactionBarrier* barrier, int arrivals) {
  const short count = static_cast<short>(arrivals);
  *barrier = {count, count, 0, 0};
}
inline void arrive(TransactionBarrier* barrier) {
  if (barrier->pending == 0) emulation::fail("more arrivals than the barrier expects");
  --barrier->pending;
  emulation::complete_bytes(barrier, 0);
}
inline void arrive_expecting(TransactionBarrier* barrier, int bytes) {
  barrier->bytes += bytes;
  arrive(barrier);
}
inline void wait(TransactionBarrier* barrier, unsigned parity) {
  if (barrier->phase != static_cast<int>(parity)) return;
  emulation::current->transaction = barrier;
  emulation::current->phase = static_cast<int>(parity);
  emulation::pause();
}
inline RemoteAddress address_in(const void* p, int rank) {
  return {emulation::shared_of(rank) +
          (static_cast<const char*>(p) - emulation::current->block->shared)};
}
inline RemoteAddress offset_by(RemoteAddress there, int bytes) { return {there.p + bytes}; }
inline void send(RemoteAddress target, float2 value, RemoteAddress barrier) {
  emulation::send(target.p, value, 8, reinterpret_cast<TransactionBarrier*>(barrier.p));
}
inline void send(RemoteAddress target, float value, RemoteAddress barrier) {
  emulation::send(target.p, {value, 0.f}, 4, reinterpret_cast<TransactionBarrier*>(barrier.p));
}

}  // namespace flowkit
