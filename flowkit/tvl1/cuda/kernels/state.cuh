// State of each pair of a batch, kept on the device: the host never waits for it.
#pragma once

#include "platform.cuh"

namespace flowkit {

// One per pair. u and q each have two buffers: kernels read the current one and write the other,
// and the last block of the pair turns them over.
struct PairState {
  int active;    // still iterating in this warp
  int u_buffer;  // the current one of u, 0 or 1
  int q_buffer;  // the current one of q
  int arrived;   // blocks that have finished with this pair in this launch
  int ended;     // its level has: it takes no part in the warps that are left
};

// Of PairState::ended: not, in the warp at hand, in one before (known after a warp's filter).
enum Ended { kGoesOn = 0, kEndedNow = 1, kEndedBefore = 2 };

// Pairs of a batch: those that still iterate in this warp, and those whose level has not ended.
struct PairCounts {
  int active, going;
};

// Count this block as finished with the pair; true in every thread of the last one, which then sees
// all that the others wrote. Every thread of the block must call it.
FLOWKIT_DEVICE bool last_block_of_pair(PairState& state, int blocks) {
  FLOWKIT_SHARED(int, before, 1);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) before[0] = atomicAdd(&state.arrived, 1);
  __syncthreads();
  __threadfence();
  return before[0] == blocks - 1;
}

}  // namespace flowkit
