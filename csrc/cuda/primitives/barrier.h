// A barrier of several CTAs, over a counter in global memory, that waits no longer than it is told.
//
// In each round every member adds one to the counter and waits until all have. A member that has
// waited for longer than the budget makes the counter jump far ahead, if it is still short of this
// round. So true means that every member came to the round, and after a jump nobody gets true, in
// that round or a later one. Distances are taken modulo 2^32: the counter may start anywhere and
// wrap around. It is not reset: the next launch starts from start + rounds * members, or the host
// clears it. Members must be resident together; the barrier does not ask whether they are.
#pragma once

#include "cuda/primitives/clock.h"
#include "cuda/primitives/memory_order.h"

namespace lstmrep {

struct CounterBarrier {
  uint32_t* words;     // [2] arrivals; how many members gave up, for the host
  uint32_t members;    // CTAs
  uint32_t start;      // arrivals before round 0
  uint64_t budget_ns;  // longest wait in a round; 0: no bound

  // The clock is read once in so many looks at the counter: never by a member that is not early.
  static constexpr uint32_t kLooks = 16;
  static constexpr uint32_t kJump = 1u << 30, kFailed = kJump / 2, kShort = 1u << 31;
  // A counter that has jumped reads as failed to members up to kFailed arrivals ahead or behind.
  static_assert(kFailed < kJump && kJump + kFailed < kShort, "ranges of ahead() are disjoint");

  // Called by all threads of every member with rounds 0, 1, 2 ...; false in all threads when a
  // member gave up. Then what the others wrote in this round must not be read.
  LSTMREP_DEVICE bool arrive_and_wait(uint32_t round) const {
    __syncthreads();
    bool failed = false;
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
      arrive();
      failed = !wait(round);
    }
    return !__syncthreads_or(failed);
  }

  // The two halves, for one thread of a member; what its block wrote comes before by a
  // __syncthreads, and what its block reads after by another. Rounds may be waited for without
  // having arrived at them, and arrived at before an earlier one was waited for.
  LSTMREP_DEVICE void arrive() const { red_release_add(words, 1); }

  LSTMREP_DEVICE bool wait(uint32_t round) const {
    const uint32_t full = start + (round + 1) * members;
    uint64_t begin = 0;  // unknown until the first time that the clock is read
    for (uint32_t looks = 1;; ++looks) {
      const uint32_t seen = ld_acquire(words);
      const uint32_t ahead = seen - full;
      if (ahead < kFailed) return true;
      if (ahead < kShort) return false;
      if (budget_ns == 0 || looks % kLooks != 0) continue;
      const uint64_t now = nanoseconds();
      if (begin == 0) begin = now;
      if (now - begin <= budget_ns) continue;
      // Another member may have come since: only the counter that was seen is made to jump.
      if (compare_and_swap(words, seen, seen + kJump) != seen) continue;
      red_release_add(words + 1, 1);
      return false;
    }
  }
};

}  // namespace lstmrep
