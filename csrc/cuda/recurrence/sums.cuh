// Where the gradients of small inputs go: start states, and biases and peepholes. Sums over several
// CTAs are formed by the last one to come (primitives/last_arrival.h), in the order of recurrences
// or parts of the batch: the same bits whoever is last, and no atomics on floats.
#pragma once

#include "cuda/primitives/coherent.h"
#include "cuda/primitives/convert.h"
#include "cuda/recurrence/arguments.h"

namespace lstmrep {

// One of the kRecurrenceSums * H sums of recurrence n: those of the bias first.
template <class Io>
LSTMREP_DEVICE void store_vector_sum(const RecurrenceBackwardArgs& a, int n, int at, float sum) {
  const RecurrenceShape& s = a.shape;
  const int of_bias = kGates * s.h;
  const int64_t to = at < of_bias
                         ? int64_t{n} * of_bias + at
                         : int64_t{s.n} * of_bias + int64_t{n} * kPeepholes * s.h + at - of_bias;
  if (s.vector_io) {
    static_cast<Io*>(a.vectors)[to] = from_float<Io>(sum);
  } else {
    static_cast<float*>(a.vectors)[to] = sum;
  }
}

// Gradients of the start state of an element that shares it with all recurrences: the sums of their
// parts, which all of them have written.
template <class Io, class Element>
LSTMREP_DEVICE void store_shared_start(const RecurrenceBackwardArgs& a, const Element& e) {
  const RecurrenceShape& s = a.shape;
  const int64_t state = int64_t{s.b} * s.h;
  float d_h = 0.0f, d_c = 0.0f;
  const uint32_t* part = reinterpret_cast<const uint32_t*>(a.start_parts) + e.start(s);
  for (int n = 0; n < s.n; ++n, part += state) {
    d_h += word_to_float(load_coherent(part));
    d_c += word_to_float(load_coherent(part + s.n * state));
  }
  if (a.d_h0) static_cast<Io*>(a.d_h0)[e.start(s)] = from_float<Io>(d_h);
  if (a.d_c0) a.d_c0[e.start(s)] = d_c;
}

}  // namespace lstmrep
