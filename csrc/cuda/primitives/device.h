// What device code is written with: the marks of device functions and dynamic shared memory.
//
// Every primitive stands twice in its header: as inline PTX for nvcc and, beside it, as plain C++
// over tests/emulator, which supplies threads, warps and blocks on the host. Kernels hold no PTX.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define LSTMREP_DEVICE __device__ __forceinline__
#define LSTMREP_UNROLL _Pragma("unroll")
#define LSTMREP_NO_UNROLL _Pragma("unroll 1")
#else
#define LSTMREP_DEVICE inline __attribute__((always_inline))
#define LSTMREP_UNROLL
#define LSTMREP_NO_UNROLL
#endif

namespace lstmrep {

constexpr int kWarp = 32;
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// First byte of the block's dynamic shared memory, 16-byte aligned.
LSTMREP_DEVICE char* dynamic_shared() {
#if defined(__CUDACC__)
  extern __shared__ __align__(128) char memory[];
  return memory;
#else
  return ::emulator::self().block->shared;
#endif
}

// x, but to the compiler another number at each call: what is derived from it is not computed ahead
// and kept in registers over loops that need them for more.
LSTMREP_DEVICE int again(int x) {
#if defined(__CUDACC__)
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// x, made by an instruction of its own. ptxas would rather keep a value in the register that it was
// loaded into, even when each use, inside a loop, then has to copy it to where an mma can read it.
LSTMREP_DEVICE uint32_t settled(uint32_t x) {
#if defined(__CUDACC__)
  return x ^ (blockDim.z - 1);  // 0, which ptxas cannot know
#else
  return x;
#endif
}

#if defined(__CUDACC__)
// What PTX takes for the address of something in shared memory.
LSTMREP_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

}  // namespace lstmrep
