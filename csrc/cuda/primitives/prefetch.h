// A hint that global memory will be read soon: into L1, without a register to hold it meanwhile.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

LSTMREP_DEVICE void prefetch(const void* from) {
#if defined(__CUDACC__)
  asm volatile("prefetch.global.L1 [%0];" ::"l"(from));
#else
  (void)from;
#endif
}

}  // namespace lstmrep
