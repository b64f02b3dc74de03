// The GPU's wall clock in nanoseconds, the same for all CTAs; it ticks in steps of up to about 1
// us.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

LSTMREP_DEVICE uint64_t nanoseconds() {
#if defined(__CUDACC__)
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
#else
  return ::emulator::nanoseconds();
#endif
}

}  // namespace lstmrep
