// What the backward pass sums over CTAs: start gradients of recurrences that share one start state,
// and the gradients of biases and peepholes. Each CTA writes its part, the last one to come adds
// them up in the order of recurrences or CTAs: the same bits whoever is last, and no atomics on
// floats.
#pragma once

#include "cuda/cta_resident/element.cuh"
#include "cuda/primitives/coherent.h"
#include "cuda/primitives/last_arrival.h"

namespace lstmrep {

// Index of a CTA's part of the sums of its recurrence.
LSTMREP_DEVICE int64_t resident_part(int64_t cta) { return int64_t{blockIdx.y} * gridDim.x + cta; }

// dh, dc: of the lane's elements after the first step.
template <class Io>
LSTMREP_DEVICE void store_start_gradients(const ResidentBackwardArgs& a,
                                          const ResidentElement (&element)[kResidentSlots],
                                          const float (&dh)[kResidentSlots],
                                          const float (&dc)[kResidentSlots]) {
  const ResidentShape& s = a.shape;
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
    float d_h = dh[j], d_c = dc[j];
    if (s.shared_start) {
      d_h = d_c = 0.0f;
      const uint32_t* part = reinterpret_cast<const uint32_t*>(a.start_parts) + e.start(s);
      for (int n = 0; n < s.n; ++n, part += state) {
        d_h += word_to_float(load_coherent(part));
        d_c += word_to_float(load_coherent(part + s.n * state));
      }
    }
    if (a.d_h0) static_cast<Io*>(a.d_h0)[e.start(s)] = from_float<Io>(d_h);
    if (a.d_c0) a.d_c0[e.start(s)] = d_c;
  }
}

template <class Io>
LSTMREP_DEVICE void add_vector_sums(const ResidentBackwardArgs& a) {
  constexpr int kAtOnce = 8;  // loads in flight in a thread
  const ResidentShape& s = a.shape;
  const int ctas = gridDim.x, width = kResidentSums * s.h, pitch = resident_sums_pitch(s.h);
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
      const int at = first + j, of_bias = kGates * s.h;
      if (at >= width) continue;
      const int64_t to =
          at < of_bias ? int64_t{blockIdx.y} * of_bias + at
                       : int64_t{s.n} * of_bias + int64_t{blockIdx.y} * 3 * s.h + at - of_bias;
      if (s.vector_io) {
        static_cast<Io*>(a.vectors)[to] = from_float<Io>(sum[j]);
      } else {
        static_cast<float*>(a.vectors)[to] = sum[j];
      }
    }
  }
}

}  // namespace lstmrep
