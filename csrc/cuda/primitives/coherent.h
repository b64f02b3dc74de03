// Loads of data that other CTAs wrote during this launch.
//
// They read L2, the point that all CTAs share: a pointer marked `const __restrict__` would make the
// compiler use ld.global.nc, whose cache nobody refreshes. They order nothing; an ld_acquire (and a
// __syncthreads, in the threads that did not acquire) comes before them. The writers use ordinary
// stores before their release.
// Of 16 bytes each word is read whole; the four together are not one atomic read.
#pragma once

#include "cuda/primitives/vector.h"

namespace lstmrep {

LSTMREP_DEVICE uint32_t load_coherent(const uint32_t* from) {
#if defined(__CUDACC__)
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
#else
  if (reinterpret_cast<uintptr_t>(from) % 4) ::emulator::fail("a 4-byte load off its alignment");
  return *static_cast<const volatile uint32_t*>(from);
#endif
}

LSTMREP_DEVICE Words load_words_coherent(const void* from) {
#if defined(__CUDACC__)
  Words v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(from)
               : "memory");
  return v;
#else
  return load_words(from);
#endif
}

}  // namespace lstmrep
