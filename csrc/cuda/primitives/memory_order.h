// 32-bit words by which CTAs tell each other that data are ready, ordered at the scope of the GPU.
//
// What a thread, or its block up to the __syncthreads before, wrote before a release is seen by
// whoever acquires the released value and, after its next __syncthreads, by that one's block.
// All polling goes through ld_acquire: in the emulator it lets the other threads run.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

LSTMREP_DEVICE uint32_t ld_acquire(const uint32_t* from) {
  uint32_t value;
#if defined(__CUDACC__)
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
#else
  ::emulator::poll();
  value = __atomic_load_n(from, __ATOMIC_RELAXED);
  ::emulator::acquire(from);
#endif
  return value;
}

LSTMREP_DEVICE void st_release(uint32_t* to, uint32_t value) {
#if defined(__CUDACC__)
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
#else
  ::emulator::release(to);
  __atomic_store_n(to, value, __ATOMIC_RELAXED);
#endif
}

LSTMREP_DEVICE void red_release_add(uint32_t* to, uint32_t value) {
#if defined(__CUDACC__)
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
#else
  ::emulator::release(to);
  __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
#endif
}

// A store that the host and other devices see too; orders nothing.
LSTMREP_DEVICE void store_system(uint32_t* to, uint32_t value) {
#if defined(__CUDACC__)
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
#else
  __atomic_store_n(to, value, __ATOMIC_RELAXED);
#endif
}

// Adds and returns what stood there: a release and an acquire in one.
LSTMREP_DEVICE uint32_t add_acq_rel(uint32_t* to, uint32_t value) {
#if defined(__CUDACC__)
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(to), "r"(value)
               : "memory");
  return before;
#else
  ::emulator::release(to);
  const uint32_t before = __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
  ::emulator::acquire(to);
  return before;
#endif
}

// Writes `value` where `expected` stands and returns what stood there. Orders nothing.
LSTMREP_DEVICE uint32_t compare_and_swap(uint32_t* at, uint32_t expected, uint32_t value) {
#if defined(__CUDACC__)
  uint32_t before;
  asm volatile("atom.relaxed.gpu.global.cas.b32 %0, [%1], %2, %3;"
               : "=r"(before)
               : "l"(at), "r"(expected), "r"(value)
               : "memory");
  return before;
#else
  __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
#endif
}

}  // namespace lstmrep
