#include "emulation.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace emulation {

Fibre* current = nullptr;
dim3 block_size, grid_size;
Schedule schedule;

namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kStaticSharedBytes = 48 * 1024;
constexpr unsigned kBlocksAtOnce = 3;
constexpr uint64_t kMostSwitches = 2'000'000'000;

std::string failure;
jmp_buf scheduler;
Launch launched;
uint64_t switches = 0;

// A store that has not arrived yet.
struct Message {
  char* target;
  float2 value;
  int bytes;
  TransactionBarrier* barrier;
};

struct Member : Block {
  std::vector<Warp> all_warps;
  std::vector<char> memory;
};

struct Members : Cluster {
  std::vector<Member> blocks;
  std::vector<Message> messages;

  // The block that has this place in its shared memory.
  Member& owner(const void* p) {
    for (Member& block : blocks) {
      if (p >= block.shared && p < block.shared + block.shared_bytes) return block;
    }
    failure = "an address outside of the cluster";
    return blocks[0];
  }
};

Members& own_cluster() { return static_cast<Members&>(*current->block->cluster); }

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
    launched.kernel(launched.args);
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
bool deliver(Members& cluster, bool all) {
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
    const Message& message = waiting[i];
    if (cluster.owner(message.target).running == 0) failure = "a store to a block that has left";
    std::memcpy(message.target, &message.value, static_cast<size_t>(message.bytes));
    complete_bytes(message.barrier, message.bytes);
  }
  waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

using Fibres = std::vector<std::unique_ptr<Fibre>>;

// Let every ready fibre of one warp run once, from a lane that the schedule chooses; under the random
// schedule now and then only some of them, so that other warps see what the lanes without the others did.
bool run_warp(Fibres& fibres, size_t first, size_t count) {
  bool ran = false;
  const bool random = schedule.kind == Schedule::kRandom;
  const bool backwards =
      schedule.kind == Schedule::kLastFirst || (random && schedule.draw() % 2 != 0);
  const size_t lanes = random && schedule.draw() % 4 == 0 ? 1 + schedule.draw() % count : count;
  for (size_t k = 0; k < lanes; ++k) {
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

void run_cluster(Members& cluster, Fibres& fibres) {
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

void make_block(const Launch& launch, unsigned index, int rank, Members& cluster, Fibres& fibres) {
  Member& block = cluster.blocks[static_cast<size_t>(rank)];
  const dim3 grid = launch.grid, size = launch.block;
  block.index = {index % grid.x, index / grid.x % grid.y, index / (grid.x * grid.y)};
  block.rank = rank;
  block.threads = block.running = static_cast<int>(size.x * size.y * size.z);
  block.cluster = &cluster;
  block.all_warps.resize(static_cast<size_t>(block.threads + 31) / 32);
  block.warps = block.all_warps.data();
  block.dynamic_bytes = (launch.dynamic_bytes + 15) & ~size_t{15};
  block.memory.assign(block.dynamic_bytes + kStaticSharedBytes, '\xff');
  block.shared = block.memory.data();
  block.shared_bytes = block.memory.size();
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

char* shared_of(int rank) {
  std::vector<Member>& blocks = own_cluster().blocks;
  if (rank < 0 || rank >= static_cast<int>(blocks.size())) fail("no such rank");
  return blocks[static_cast<size_t>(rank)].shared;
}

void send(char* target, float2 value, int bytes, TransactionBarrier* barrier) {
  own_cluster().messages.push_back({target, value, bytes, barrier});
}

void pause() {
  if (_setjmp(current->point) == 0) _longjmp(scheduler, 1);
}

void fail(const char* what) {
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

const char* no_kernel(const char* name, int args) {
  failure = "no kernel " + std::string(name) + " with " + std::to_string(args) + " arguments";
  return failure.c_str();
}

const char* run(const Launch& launch) {
  launched = launch;
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
    Members cluster;
    cluster.blocks.resize(min(size, blocks - index * size));
    Fibres fibres;
    for (unsigned rank = 0; rank < cluster.blocks.size(); ++rank) {
      make_block(launch, index * size + rank, static_cast<int>(rank), cluster, fibres);
    }
    run_cluster(cluster, fibres);
  }
  return failure.empty() ? nullptr : failure.c_str();
}

}  // namespace emulation
