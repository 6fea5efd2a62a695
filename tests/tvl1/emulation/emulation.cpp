#include "emulation.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <memory>

namespace emulation {

Fibre* current = nullptr;
dim3 block_size, grid_size;
Schedule schedule;
std::string failure;

namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kStaticSharedBytes = 48 * 1024;
constexpr unsigned kBlocksAtOnce = 3;
constexpr uint64_t kMostSwitches = 2'000'000'000;

jmp_buf scheduler;
std::function<void()> body;
uint64_t switches = 0;

// A fibre's stack outlives its launch: a context costs two calls of the system, a jump none.
struct Stack {
  void* memory;
  jmp_buf idle;
  bool is_idle = false;  // ended its last fibre, and waits in `start` for the next
};

Stack& stack(size_t index) {
  static std::vector<std::unique_ptr<Stack>> stacks;
  while (stacks.size() <= index) {
    void* const memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for fibres");
    stacks.push_back(std::make_unique<Stack>());
    stacks.back()->memory = memory;
  }
  return *stacks[index];
}

[[noreturn]] void start() {
  for (;;) {
    body();
    current->done = true;
    --current->block->running;
    Stack& own = stack(current->stack);
    own.is_idle = true;
    if (_setjmp(own.idle) == 0) _longjmp(scheduler, 1);
  }
}

// Run one fibre until it waits or ends.
void resume(Fibre& fibre, size_t index) {
  current = &fibre;
  ++switches;
  if (_setjmp(scheduler) != 0) return;
  if (fibre.started) _longjmp(fibre.point, 1);
  fibre.started = true;
  fibre.stack = index;
  Stack& own = stack(index);
  if (own.is_idle) {
    own.is_idle = false;
    _longjmp(own.idle, 1);
  }
  getcontext(&fibre.entry);
  fibre.entry.uc_stack.ss_sp = own.memory;
  fibre.entry.uc_stack.ss_size = kStackBytes;
  fibre.entry.uc_link = nullptr;
  makecontext(&fibre.entry, start, 0);
  setcontext(&fibre.entry);
}

// Deliver messages between blocks: all of them, or a random part in random order.
bool deliver(Cluster& cluster, bool all) {
  auto& waiting = cluster.messages;
  const bool random = schedule.kind == Schedule::kRandom;
  if (waiting.empty() || (random && !all && schedule.draw() % 4 != 0)) return false;
  if (schedule.kind == Schedule::kLastFirst) std::reverse(waiting.begin(), waiting.end());
  if (random) {
    for (size_t i = waiting.size(); i > 1; --i)
      std::swap(waiting[i - 1], waiting[schedule.draw() % i]);
  }
  const size_t count = random && !all ? (waiting.size() + 1) / 2 : waiting.size();
  for (size_t i = 0; i < count; ++i) {
    if (cluster.owner(waiting[i].target).running == 0) failure = "a store to a block that has left";
    *waiting[i].target = waiting[i].value;
    complete_bytes(waiting[i].barrier, sizeof(float2));
  }
  waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

using Fibres = std::vector<std::unique_ptr<Fibre>>;

// Let every ready fibre of one warp run once, from a lane that the schedule chooses.
bool run_warp(Fibres& fibres, size_t first, size_t count) {
  bool ran = false;
  const bool backwards = schedule.kind == Schedule::kLastFirst ||
                         (schedule.kind == Schedule::kRandom && schedule.draw() % 2 != 0);
  for (size_t k = 0; k < count; ++k) {
    const size_t index = first + (backwards ? count - 1 - k : k);
    Fibre& fibre = *fibres[index];
    if (fibre.done || fibre.waits()) continue;
    fibre.barrier = nullptr;
    fibre.transaction = nullptr;
    resume(fibre, index);
    ran = true;
  }
  return ran;
}

// Which warps the random schedule holds back for a while, so that others get far ahead.
struct Holds {
  std::vector<bool> held;
  uint64_t passes = 0;
  void renew(size_t warps) {
    passes = schedule.draw() % 64;
    held.assign(warps, false);
    if (schedule.draw() % 4 == 0) return;
    for (size_t warp = 0; warp < warps; ++warp) held[warp] = schedule.draw() % 2 != 0;
  }
};

// Let warps run: each once, or some of them as far as they get.
bool run_warps(Fibres& fibres, Holds& holds) {
  const size_t warps = (fibres.size() + 31) / 32;
  const bool random = schedule.kind == Schedule::kRandom;
  if (random && holds.passes-- == 0) holds.renew(warps);
  bool ran = false;
  for (size_t k = 0; k < warps; ++k) {
    size_t warp = k;
    bool as_far_as_possible = false;
    if (schedule.kind == Schedule::kLastFirst) {
      warp = warps - 1 - k;
      as_far_as_possible = true;
    } else if (random) {
      warp = schedule.draw() % warps;
      as_far_as_possible = schedule.draw() % 4 != 0;
      if (holds.held[warp]) continue;
    }
    const size_t first = 32 * warp, count = std::min<size_t>(32, fibres.size() - first);
    while (run_warp(fibres, first, count)) {
      ran = true;
      if (!as_far_as_possible) break;
    }
  }
  if (!ran) holds.passes = 0;
  return ran;
}

void run_cluster(Cluster& cluster, Fibres& fibres) {
  const auto running = [&] {
    return std::any_of(fibres.begin(), fibres.end(), [](const auto& f) { return !f->done; });
  };
  Holds holds;
  holds.renew((fibres.size() + 31) / 32);
  int idle = 0;
  while (failure.empty() && running()) {
    const bool delivered = deliver(cluster, idle > 0);
    idle = run_warps(fibres, holds) || delivered ? 0 : idle + 1;
    // A random schedule may have missed the only warp that could run: try often before giving up.
    if (idle > 1000) failure = "deadlock: every thread waits";
    if (switches > kMostSwitches) failure = "too many switches: no end in sight";
  }
  if (failure.empty() && !cluster.messages.empty()) failure = "a store outlived its cluster";
}

void make_block(const Launch& launch, unsigned index, int rank, Cluster& cluster, Block& block,
                Fibres& fibres) {
  const dim3 grid = launch.grid, size = launch.block;
  block.index = {index % grid.x, index / grid.x % grid.y, index / (grid.x * grid.y)};
  block.rank = rank;
  block.threads = block.running = static_cast<int>(size.x * size.y * size.z);
  block.cluster = &cluster;
  block.warps.resize(static_cast<size_t>(block.threads + 31) / 32);
  block.dynamic_bytes = (launch.dynamic_bytes + 15) & ~size_t{15};
  block.shared.assign(block.dynamic_bytes + kStaticSharedBytes, '\xff');
  cluster.blocks.push_back(&block);
  cluster.threads += block.threads;
  for (int t = 0; t < block.threads; ++t) {
    auto fibre = std::make_unique<Fibre>();
    const unsigned thread = static_cast<unsigned>(t);
    fibre->thread = {thread % size.x, thread / size.x % size.y, thread / (size.x * size.y)};
    fibre->lane = t % 32;
    fibre->warp = t / 32;
    fibre->block = &block;
    fibres.push_back(std::move(fibre));
  }
}

}  // namespace

Block& Cluster::owner(const void* p) {
  for (Block* block : blocks) {
    const char* const start = block->shared.data();
    if (p >= start && p < start + block->shared.size()) return *block;
  }
  failure = "an address outside of the cluster";
  return *blocks[0];
}

void pause() {
  if (_setjmp(current->point) == 0) _longjmp(scheduler, 1);
}

void fail(const std::string& what) {
  failure = what;
  current->done = true;
  _longjmp(scheduler, 1);
}

uint64_t arrive(Barrier& barrier, int threads) {
  const uint64_t generation = barrier.generation;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  return generation;
}

void wait(const Barrier& barrier, uint64_t generation) {
  if (barrier.generation != generation) return;
  current->barrier = &barrier;
  current->generation = generation;
  pause();
}

void arrive_and_wait(Barrier& barrier, int threads) { wait(barrier, arrive(barrier, threads)); }

void complete_bytes(TransactionBarrier* barrier, int bytes) {
  barrier->bytes -= bytes;
  if (barrier->pending == 0 && barrier->bytes == 0) {
    barrier->pending = barrier->expected;
    barrier->phase ^= 1;
  }
}

bool run(const Launch& launch) {
  body = launch.kernel;
  block_size = launch.block;
  grid_size = launch.grid;
  failure.clear();
  switches = 0;
  const unsigned blocks = launch.grid.x * launch.grid.y * launch.grid.z;
  unsigned size = max(static_cast<unsigned>(launch.cluster_size), 1u);
  // Blocks that know nothing of each other may run at once; a few, so that stacks stay in cache.
  if (launch.cluster_size == 0 && schedule.kind == Schedule::kRandom) size = kBlocksAtOnce;
  const unsigned groups = (blocks + size - 1) / size;
  const uint64_t rotation = schedule.state % max(groups, 1u);
  for (unsigned k = 0; k < groups && failure.empty(); ++k) {
    unsigned index = k;
    if (schedule.kind == Schedule::kLastFirst) index = groups - 1 - k;
    if (schedule.kind == Schedule::kRandom) index = static_cast<unsigned>((k + rotation) % groups);
    Cluster cluster;
    std::vector<Block> members(min(size, blocks - index * size));
    Fibres fibres;
    for (unsigned rank = 0; rank < members.size(); ++rank) {
      make_block(launch, index * size + rank, static_cast<int>(rank), cluster, members[rank],
                 fibres);
    }
    run_cluster(cluster, fibres);
  }
  return failure.empty();
}

}  // namespace emulation
