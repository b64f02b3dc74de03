// cp.async: copies from global to shared memory that run while the thread goes on.
//
// A thread's copies since its last commit_copies() form a group; wait_copies<N>() waits until at
// most its N newest groups are under way. Copied bytes are then seen by the thread that issued the
// copy, and by its block only after a __syncthreads that follows the wait.
// Both addresses are multiples of the copy's size. `filled` bytes are copied and zeros follow; with
// filled = 0 nothing is read, but the address still has to be a global one.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

// 16 bytes, past L1.
LSTMREP_DEVICE void copy_16(void* to, const void* from, uint32_t filled = 16) {
#if defined(__CUDACC__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(filled)
               : "memory");
#else
  ::emulator::async_copy(to, from, 16, filled);
#endif
}

// 4 bytes, for rows that are not aligned to 16. This size exists only through L1: not for data
// that other CTAs write during the launch.
LSTMREP_DEVICE void copy_4(void* to, const void* from, uint32_t filled = 4) {
#if defined(__CUDACC__)
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(filled)
               : "memory");
#else
  ::emulator::async_copy(to, from, 4, filled);
#endif
}

LSTMREP_DEVICE void commit_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  ::emulator::async_commit();
#endif
}

template <int kGroupsLeft>
LSTMREP_DEVICE void wait_copies() {
  static_assert(kGroupsLeft >= 0, "a number of groups");
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#else
  ::emulator::async_wait(kGroupsLeft);
#endif
}

}  // namespace lstmrep
