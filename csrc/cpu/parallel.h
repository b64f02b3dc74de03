// One parallel region for a whole sequence: a team of threads, static shares, a barrier.
//
// Uses OpenMP when compiled with it (the runtime that torch has already loaded is then shared),
// else runs on the calling thread alone. Work is owned, never stolen: item j belongs to the same
// thread in every step, so that its weights stay in that core's cache.
#pragma once

#include <stdint.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace lstmrep {
namespace {

struct Share {
  int thread;
  int64_t begin, end;  // items of this thread
};

static inline void team_barrier() {
#if defined(_OPENMP)
#pragma omp barrier
#endif
}

// Calls body(Share) once on each thread of a team of at most `threads`.
template <class Body>
void run_team(int threads, int64_t items, const Body& body) {
#if defined(_OPENMP)
  if (threads > items) threads = items < 1 ? 1 : static_cast<int>(items);
#pragma omp parallel num_threads(threads)
  {
    // The runtime may grant fewer threads than were asked for.
    const int64_t size = omp_get_num_threads();
    const int64_t me = omp_get_thread_num();
    body(Share{static_cast<int>(me), items * me / size, items * (me + 1) / size});
  }
#else
  (void)threads;
  body(Share{0, 0, items});
#endif
}

}  // namespace
}  // namespace lstmrep
