#include "batch.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "denormals.hpp"
#include "pyramid.hpp"
#include "solver.hpp"

namespace flowkit {
namespace {

using Pyramid = std::vector<Plane>;

// Call make_worker()(i) for every i below `count`, each thread with a worker of its own. No thread
// waits but for the last item; the first exception ends the work and is thrown here.
template <typename MakeWorker>
void parallel_for(int64_t count, int threads, MakeWorker make_worker) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::atomic<bool> has_failed{false};
  const auto run = [&] {
    const FlushDenormals flush;
    try {
      auto worker = make_worker();
      for (int64_t i = next++; i < count; i = next++) worker(i);
    } catch (...) {  // no exception may leave a thread; rethrown below
      if (!has_failed.exchange(true)) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> helpers;
  const int64_t wanted = std::min<int64_t>(threads, count) - 1;
  helpers.reserve(static_cast<size_t>(std::max<int64_t>(0, wanted)));
  try {
    for (int64_t t = 0; t < wanted; ++t) helpers.emplace_back(run);
  } catch (const std::system_error&) {
    // No more threads to be had: those that run do all the work, with the same result.
  }
  run();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

FrameView frame_of(const FlowkitBatch& batch, int64_t index) {
  const auto dtype = static_cast<FlowkitDtype>(batch.dtype);
  const int64_t bytes = batch.height * batch.width * (dtype == FLOWKIT_UINT8 ? 1 : 4);
  return {static_cast<const char*>(batch.frames) + index * bytes, dtype,
          Size{static_cast<int>(batch.width), static_cast<int>(batch.height)}};
}

// Frames that some pair names; no pyramid is built for the others.
std::vector<int64_t> named_frames(const FlowkitBatch& batch) {
  std::vector<int64_t> frames(batch.pairs, batch.pairs + 2 * batch.pair_count);
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  return frames;
}

// Normalised together, a frame's grey values depend on the pair, so its pyramid cannot be shared.
void build_own_pyramids(const FlowkitBatch& batch, const int32_t* pair, const FlowkitParams& params,
                        InterpolatePlanes interpolate, std::array<Pyramid, 2>& pyramids) {
  const FrameView frames[2] = {frame_of(batch, pair[0]), frame_of(batch, pair[1])};
  const GreyMap map = joint_normalisation(frames[0], frames[1]);
  for (int k = 0; k < 2; ++k) build_pyramid(frames[k], map, params, interpolate, pyramids[k]);
}

bool are_equal(const FlowkitBatch& batch, const int32_t* pair) {
  const FrameView first = frame_of(batch, pair[0]), second = frame_of(batch, pair[1]);
  const size_t pixels = static_cast<size_t>(batch.height) * batch.width;
  const size_t bytes = pixels * (batch.dtype == FLOWKIT_UINT8 ? 1 : 4);
  return first.pixels == second.pixels || std::memcmp(first.pixels, second.pixels, bytes) == 0;
}

// The iterations that a warp takes where nothing moves at all.
int still_iterations(const FlowkitParams& params) {
  if (params.epsilon == 0) return params.iterations;
  const int first = params.check_first > 0 ? params.check_first : params.check_every;
  return std::min({first, params.check_every, params.iterations});
}

// A frame that repeats the one before has no motion: what the iterations would come to, exactly.
void fill_still(const FlowkitParams& params, int64_t flow_floats, int64_t counts, float* flow,
                int32_t* iterations) {
  std::fill_n(flow, flow_floats, 0.f);
  if (iterations == nullptr) return;
  const int done = still_iterations(params);
  const bool ends_level =
      done == params.check_first && done < std::min(params.check_every, params.iterations);
  for (int64_t i = 0; i < counts; ++i) {
    iterations[i] = ends_level && i % params.warps != 0 ? 0 : done;
  }
}

// Memory that a thread keeps from call to call, so that the system need not hand out and clear the
// same pages for each: with one 320x240 pair a call that was a tenth of the time.
struct Memory {
  std::vector<Pyramid> shared;  // of the frames of this call
  std::array<Pyramid, 2> own;   // of one pair
  Workspace work;
};

Memory& memory_of_this_thread() {
  thread_local Memory memory;
  return memory;
}

// Frees this thread's memory at the end of a call that is so large that keeping it would hurt.
class FreeIfLarge {
 public:
  explicit FreeIfLarge(int64_t pixels) : large_(pixels > kMostKept) {}
  ~FreeIfLarge() {
    if (large_) memory_of_this_thread() = Memory{};
  }
  FreeIfLarge(const FreeIfLarge&) = delete;
  FreeIfLarge& operator=(const FreeIfLarge&) = delete;

 private:
  static constexpr int64_t kMostKept = int64_t{1} << 23;  // pixels; at most 130 MiB are kept
  const bool large_;
};

}  // namespace

void solve_batch(const FlowkitParams& params, const FlowkitBatch& batch, const Kernels& kernels) {
  const Size size{static_cast<int>(batch.width), static_cast<int>(batch.height)};
  const int64_t counts = static_cast<int64_t>(level_sizes(size, params).size()) * params.warps;
  const int64_t flow_floats = 2 * batch.height * batch.width;
  const bool shared = params.normalize == 0;

  const FreeIfLarge free_if_large(batch.frame_count * batch.height * batch.width);

  std::vector<Pyramid>& pyramids = memory_of_this_thread().shared;
  if (shared) {
    if (pyramids.size() < static_cast<size_t>(batch.frame_count))
      pyramids.resize(batch.frame_count);
    const std::vector<int64_t> named = named_frames(batch);
    parallel_for(static_cast<int64_t>(named.size()), batch.threads, [&] {
      return [&](int64_t i) {
        build_pyramid(frame_of(batch, named[i]), GreyMap{}, params, kernels.interpolate,
                      pyramids[named[i]]);
      };
    });
  }
  parallel_for(batch.pair_count, batch.threads, [&] {
    return [&, &own = memory_of_this_thread().own,
            &work = memory_of_this_thread().work](int64_t i) {
      const int32_t* const pair = batch.pairs + 2 * i;
      float* const flow = batch.flow + i * flow_floats;
      int32_t* const iterations = batch.iterations ? batch.iterations + i * counts : nullptr;
      if (are_equal(batch, pair)) {
        fill_still(params, flow_floats, counts, flow, iterations);
        return;
      }
      if (!shared) build_own_pyramids(batch, pair, params, kernels.interpolate, own);
      const Pyramid& first = shared ? pyramids[pair[0]] : own[0];
      const Pyramid& second = shared ? pyramids[pair[1]] : own[1];
      solve_pair(first, second, params, kernels, work, flow, iterations);
    };
  });
}

}  // namespace flowkit
