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

// Waits by spinning for about as long as shares of a step differ, then gives its core away at each
// look: OpenMP's own barrier spins for milliseconds, and where other programs want the cores too it
// is the last thread's core that it spins on (measured: 4 ms a step with two busy programs).
struct Barrier {
  static constexpr int kSpins = 2000;
  int arrived = 0;
  int generation = 0;

  void wait(int size) {
#if defined(_OPENMP)
    if (size == 1) return;
    const int now = __atomic_load_n(&generation, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == size) {
      __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&generation, now + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&generation, __ATOMIC_ACQUIRE) == now; ++spins) {
      if (spins < kSpins) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
      } else {
        sched_yield();
      }
    }
#else
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
  void wait() const { barrier->wait(threads); }
};

// Calls body(Share) once on each thread of a team: at most `threads`, and at most one for an item.
template <class Body>
void run_team(int threads, int64_t items, const Body& body) {
  Barrier barrier;
#if defined(_OPENMP)
  if (threads > items) threads = items < 1 ? 1 : static_cast<int>(items);
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
  body(Share{0, 1, &barrier});
#endif
}

}  // namespace
}  // namespace lstmrep
