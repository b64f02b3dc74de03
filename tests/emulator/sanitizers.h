// What the emulator tells ThreadSanitizer and AddressSanitizer, and nothing where neither is on.
//
// The emulator's own files are compiled without instrumentation: only the kernels are watched. To
// ThreadSanitizer every CUDA thread is a thread of its own, and only `release` and `acquire` order
// two of them; being scheduled one after the other does not.
#pragma once

#if defined(__SANITIZE_THREAD__) || defined(EMULATOR_TSAN)
#define EMULATOR_HAS_TSAN 1
#include <sanitizer/tsan_interface.h>
// For the few functions in headers that touch what belongs to other CUDA threads.
#define EMULATOR_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#else
#define EMULATOR_UNCHECKED __attribute__((noinline))
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(EMULATOR_ASAN)
#define EMULATOR_HAS_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

// What the calling thread did so far is seen by whoever acquires the same address later.
inline void release(const volatile void* address) {
#ifdef EMULATOR_HAS_TSAN
  __tsan_release(const_cast<void*>(address));
#else
  (void)address;
#endif
}

inline void acquire(const volatile void* address) {
#ifdef EMULATOR_HAS_TSAN
  __tsan_acquire(const_cast<void*>(address));
#else
  (void)address;
#endif
}

}  // namespace emulator
