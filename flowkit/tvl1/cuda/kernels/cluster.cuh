// Thread block clusters (sm_90 and newer): ranks, barriers, and rows sent from one block's shared
// memory to another's. The host emulation brings its own.
//
// A row travels as st.async: each store reports its bytes to an mbarrier in the receiving block, so
// that a wait there covers both the arrivals of its own warps and the bytes from the neighbour.
#pragma once

#include "platform.cuh"

#ifndef FLOWKIT_EMULATED

namespace flowkit {

typedef unsigned long long TransactionBarrier;
typedef unsigned RemoteAddress;  // in the window of the cluster's shared memory

FLOWKIT_DEVICE unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

FLOWKIT_DEVICE int cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return (int)rank;
}

// Every thread of every block of the cluster. Not `.aligned`, which promises that all lanes of a warp
// are at the same instruction: lanes diverge before each of these barriers.
FLOWKIT_DEVICE void synchronize_cluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

FLOWKIT_DEVICE void init_barrier(TransactionBarrier* barrier, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;\n\t"
      "fence.mbarrier_init.release.cluster;" ::"r"(shared_address(barrier)),
      "r"(arrivals)
      : "memory");
}

FLOWKIT_DEVICE void arrive(TransactionBarrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

FLOWKIT_DEVICE void arrive_expecting(TransactionBarrier* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

// Return once the phase of this parity is complete.
FLOWKIT_DEVICE void wait(TransactionBarrier* barrier, unsigned parity) {
  unsigned complete = 0;
  while (!complete) {
    asm volatile(
        "{\n\t"
        ".reg .pred complete;\n\t"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, complete;\n\t"
        "}"
        : "=r"(complete)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
}

// The address of `p` in the block of that rank.
FLOWKIT_DEVICE RemoteAddress address_in(const void* p, int rank) {
  RemoteAddress there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(p)), "r"(rank));
  return there;
}

FLOWKIT_DEVICE RemoteAddress offset_by(RemoteAddress there, int bytes) { return there + bytes; }

// Store a value in another block, and report its 8 bytes to that block's barrier.
FLOWKIT_DEVICE void send(RemoteAddress target, float2 value, RemoteAddress barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(
          target),
      "f"(value.x), "f"(value.y), "r"(barrier)
      : "memory");
}

// The same of 4 bytes.
FLOWKIT_DEVICE void send(RemoteAddress target, float value, RemoteAddress barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(target),
      "f"(value), "r"(barrier)
      : "memory");
}

}  // namespace flowkit

#endif
