// One parallel region for a whole sequence: a team of threads, static shares, a barrier.
//
// Uses OpenMP's threads when compiled with it (the runtime that torch has already loaded is then
// shared), else runs on the calling thread alone. Work is owned, never stolen: item j belongs to
// the same thread in every step, so that its weights stay in that core's cache.
#pragma once

#include <stdint.h>

#if defined(_OPENMP)
#include <omp.h>
#include <sched.h>
#endif

namespace lstmrep {
namespace {

// Each thread counts its arrivals in a cache line of its own, which the others read: a step costs
// one store and one line from each of the others. Waits by spinning for about as long as shares of
// a step differ, then gives its core away at each look: OpenMP's own barrier spins for
// milliseconds, and where other programs want the cores too it is the last thread's core that it
// spins on (measured: 4 ms a step with two busy programs).
struct Barrier {
  static constexpr int kMost = 256;  // threads
  static constexpr int kSpins = 2000;
  struct alignas(64) Arrivals {
    uint32_t count;
  };
  Arrivals of[kMost];

  explicit Barrier(int threads) {
    for (int j = 0; j < threads; ++j) of[j].count = 0;
  }

  void wait(int thread, int size) {
#if defined(_OPENMP)
    const uint32_t count = of[thread].count + 1;
    __atomic_store_n(&of[thread].count, count, __ATOMIC_RELEASE);
    int spins = 0;
    for (int j = 0; j < size; ++j) {
      // Another may be one step ahead; counts wrap.
      while (static_cast<int32_t>(__atomic_load_n(&of[j].count, __ATOMIC_ACQUIRE) - count) < 0) {
        if (spins++ < kSpins) {
#if defined(__x86_64__) || defined(__i386__)
          __builtin_ia32_pause();
#endif
        } else {
          sched_yield();
        }
      }
    }
#else
    (void)thread;
    (void)size;
#endif
  }
};

struct Share {
  int thread;
  int threads;  // of the team
  Barrier* barrier;

  // Of `items` items, those from begin to before end are this thread's.
  int64_t begin(int64_t items) const { return items * thread / threads; }
  int64_t end(int64_t items) const { return items * (thread + 1) / threads; }
  void wait() const { barrier->wait(thread, threads); }
};

// Calls body(Share) once on each thread of a team: at most `threads`, and at most one for an item.
template <class Body>
void run_team(int threads, int64_t items, const Body& body) {
#if defined(_OPENMP)
  if (threads > items) threads = items < 1 ? 1 : static_cast<int>(items);
  if (threads > Barrier::kMost) threads = Barrier::kMost;
  Barrier barrier(threads);
#pragma omp parallel num_threads(threads)
  {
    // The runtime may grant fewer threads than were asked for.
    const int size = omp_get_num_threads();
    const int me = omp_get_thread_num();
    body(Share{me, size, &barrier});
  }
#else
  (void)threads;
  (void)items;
  Barrier barrier(1);
  body(Share{0, 1, &barrier});
#endif
}

}  // namespace
}  // namespace lstmrep
