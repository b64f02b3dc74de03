// What the backward pass sums over CTAs: start gradients of recurrences that share one start state,
// and the gradients of biases and peepholes.
#pragma once

#include "cuda/cta_resident/element.cuh"
#include "cuda/primitives/last_arrival.h"
#include "cuda/recurrence/sums.cuh"

namespace lstmrep {

// Index of a CTA's part of the sums of its recurrence.
LSTMREP_DEVICE int64_t resident_part(int64_t cta) { return int64_t{blockIdx.y} * gridDim.x + cta; }

// dh, dc: of the lane's elements after the first step.
template <class Io>
LSTMREP_DEVICE void store_start_gradients(const RecurrenceBackwardArgs& a,
                                          const ResidentElement (&element)[kResidentSlots],
                                          const float (&dh)[kResidentSlots],
                                          const float (&dc)[kResidentSlots]) {
  const RecurrenceShape& s = a.shape;
  if (!a.d_h0 && !a.d_c0) return;
  const int64_t state = int64_t{s.b} * s.h;
  if (s.shared_start) {
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      if (!element[j].exists) continue;
      a.start_parts[element[j].state(s)] = dh[j];
      a.start_parts[s.n * state + element[j].state(s)] = dc[j];
    }
    if (!arrives_last(a.arrivals + blockIdx.x, s.n)) return;
  }
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    const ResidentElement& e = element[j];
    if (!e.exists) continue;
    if (s.shared_start) {
      store_shared_start<Io>(a, e);
    } else {
      if (a.d_h0) static_cast<Io*>(a.d_h0)[e.start(s)] = from_float<Io>(dh[j]);
      if (a.d_c0) a.d_c0[e.start(s)] = dc[j];
    }
  }
}

template <class Io>
LSTMREP_DEVICE void add_vector_sums(const RecurrenceBackwardArgs& a) {
  constexpr int kAtOnce = 8;  // loads in flight in a thread
  const RecurrenceShape& s = a.shape;
  const int ctas = gridDim.x, width = kRecurrenceSums * s.h, pitch = sums_pitch(s.h);
  if (!arrives_last(a.arrivals + ctas + blockIdx.y, ctas)) return;
  for (int first = 4 * threadIdx.x; first < width; first += 4 * blockDim.x) {
    float sum[4] = {};
    for (int cta = 0; cta < ctas; cta += kAtOnce) {
      Words part[kAtOnce];
      LSTMREP_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        // -0: adding it changes no sum
        part[k] = {{1u << 31, 1u << 31, 1u << 31, 1u << 31}};
        if (cta + k < ctas) {
          part[k] = load_words_coherent(a.sums + resident_part(cta + k) * pitch + first);
        }
      }
      LSTMREP_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        LSTMREP_UNROLL
        for (int j = 0; j < 4; ++j) sum[j] += word_to_float(part[k].w[j]);
      }
    }
    LSTMREP_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (first + j < width) store_vector_sum<Io>(a, blockIdx.y, first + j, sum[j]);
    }
  }
}

}  // namespace lstmrep
