// How forward and backward cut the one scratch buffer, and the frame that a step reads.
//
// Only sizes and pointers; the buffer arrives uninitialised. Every part starts at a multiple of 64
// bytes. Row strides are padded by one vector beyond the vector multiple: with H a power of two the
// rows of a batch would otherwise fall into the same cache sets.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace lstmrep {
namespace {

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Hands out consecutive parts of a buffer; with a null base it only adds up the size.
struct Carver {
  char* base;
  size_t used;
  template <class E>
  E* take(int64_t count) {
    E* part = base ? reinterpret_cast<E*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(E) + 63) / 64 * 64;
    return part;
  }
};

template <class C>
int64_t padded_row(int64_t columns) {
  return ceil_div(columns, kLanes<C>) * kLanes<C> + kLanes<C>;
}

template <class C>
struct ForwardScratch {
  int64_t panels, ldh;
  C* weights;   // [N, panels, H, 4, lanes], null where W_hh is not packed
  C* h[2];      // [N, B, ldh] each: state before and after a step
  C* c;         // [N, B, panels * lanes]
  C* products;  // [threads, B, 4, lanes]

  ForwardScratch(const CpuProblem& p, Carver& carver) {
    panels = ceil_div(p.h, kLanes<C>);
    ldh = padded_row<C>(p.h);
    weights = p.packed ? carver.take<C>(p.n * panels * p.h * 4 * kLanes<C>) : nullptr;
    for (C*& state : h) state = carver.take<C>(p.n * p.b * ldh);
    c = carver.take<C>(p.n * p.b * panels * kLanes<C>);
    products = carver.take<C>(p.threads * p.b * 4 * kLanes<C>);
  }
};

template <class C>
struct BackwardScratch {
  int64_t panels, ldg;
  C* weights;    // [N, panels, 4H, 4, lanes], null where W_hh is not packed
  C* d[2];       // [N, B, ldg] each: gate gradients (4H) of the step after and of this step
  C* dc;         // [N, B, panels * 4 * lanes]
  C* products;   // [threads, B, 4, lanes]; [B, N, panels, 4, lanes] where W_hh is not packed
  double* sums;  // [N, panels, 7, 4 * lanes]

  BackwardScratch(const CpuProblem& p, Carver& carver) {
    panels = ceil_div(p.h, 4 * kLanes<C>);
    ldg = padded_row<C>(4 * p.h);
    weights = p.packed ? carver.take<C>(p.n * panels * 4 * p.h * 4 * kLanes<C>) : nullptr;
    for (C*& gradient : d) gradient = carver.take<C>(p.n * p.b * ldg);
    dc = carver.take<C>(p.n * p.b * panels * 4 * kLanes<C>);
    products = carver.take<C>((p.packed ? p.threads : p.n * panels) * p.b * 4 * kLanes<C>);
    sums = carver.take<double>(p.n * panels * 7 * 4 * kLanes<C>);
  }
};

template <class C>
size_t scratch_bytes(const CpuProblem& p, bool backward) {
  Carver carver{nullptr, 0};
  if (backward) {
    BackwardScratch<C> scratch(p, carver);
  } else {
    ForwardScratch<C> scratch(p, carver);
  }
  return carver.used;
}

// Number of steps of row (n, b), clamped to [0, T].
static inline int64_t row_length(const CpuProblem& p, int64_t n, int64_t b) {
  if (!p.lengths) return p.t;
  const int64_t length = p.lengths[n * p.b + b];
  return length < 0 ? 0 : length > p.t ? p.t : length;
}

// Frame of an active step t < length; inactive steps keep frame t.
static inline int64_t frame_of(bool reverse, int64_t length, int64_t t) {
  return reverse ? length - 1 - t : t;
}

}  // namespace
}  // namespace lstmrep
