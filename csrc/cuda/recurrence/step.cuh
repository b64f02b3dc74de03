// One step of one element, forward and backward: loads, the cell, and stores of what the step
// leaves. The same for every kernel that runs whole sequences.
//
// What a step reads is loaded as it lies and converted where it is used, with no branch between the
// loads: so all of them are under way at once, and a kernel has work to do until they come.
//
// Element says where an element lives: n(), unit, state(s) (its place in [N, B, H]), start(s) (its
// place in the start states), length (steps of its row), active(step) = step < length,
// frame_row(s, step) (its place in [N, T, B]; reversed recurrences and lengths are its business),
// all for elements that exist.
#pragma once

#include "cell/lstm_cell.h"
#include "cuda/primitives/gates.h"
#include "cuda/primitives/math.h"
#include "cuda/recurrence/arguments.h"

namespace lstmrep {

// An element of a bias or peephole vector.
template <class Io>
LSTMREP_DEVICE float vector_at(const RecurrenceShape& s, const void* vector, int64_t j) {
  return s.vector_io ? to_float(static_cast<const Io*>(vector)[j])
                     : static_cast<const float*>(vector)[j];
}

// The peepholes of a unit; zeros for units beyond H.
template <class Io>
LSTMREP_DEVICE PeepholeValues<float> load_peephole(const RecurrenceShape& s,
                                                   const void* const* peepholes, int n, int unit) {
  const void* const* own = peepholes + 3 * n;
  if (!own[0]) return {false, 0.0f, 0.0f, 0.0f};
  if (unit >= s.h) return {true, 0.0f, 0.0f, 0.0f};
  return {true, vector_at<Io>(s, own[0], unit), vector_at<Io>(s, own[1], unit),
          vector_at<Io>(s, own[2], unit)};
}

// The bias of a unit; zeros for units beyond H.
template <class Io>
LSTMREP_DEVICE GateValues<float> load_bias(const RecurrenceShape& s, const void* const* biases,
                                           int n, int unit) {
  const void* const own = biases[n];
  if (!own || unit >= s.h) return {0.0f, 0.0f, 0.0f, 0.0f};
  const int64_t h = s.h;
  return {vector_at<Io>(s, own, unit), vector_at<Io>(s, own, h + unit),
          vector_at<Io>(s, own, 2 * h + unit), vector_at<Io>(s, own, 3 * h + unit)};
}

// The input's share of the gates of a step, without the bias.
template <class Io>
struct GateInput {
  Io x[kGates];
};

// Of an active step.
template <class Io, class Element>
LSTMREP_DEVICE GateInput<Io> load_input(const RecurrenceForwardArgs& a, const Element& e,
                                        int step) {
  GateInput<Io> in = {};
  if (!a.gates_x) return in;
  const int64_t h = again(a.shape.h);
  const Io* first = static_cast<const Io*>(a.gates_x) + e.frame_row(a.shape, step) * 4 * h + e.unit;
  LSTMREP_UNROLL
  for (int m = 0; m < kGates; ++m) in.x[m] = first[m * h];
  return in;
}

// z: sums of the recurrent product, by gate.
template <class Io>
LSTMREP_DEVICE GateValues<float> gate_sums(const GateInput<Io>& in, const GateValues<float>& bias,
                                           const float (&z)[kGates]) {
  return {to_float(in.x[0]) + bias.i + z[0], to_float(in.x[1]) + bias.f + z[1],
          to_float(in.x[2]) + bias.g + z[2], to_float(in.x[3]) + bias.o + z[3]};
}

// z: sums of the gates; p: peepholes of the unit; c: in and out, unchanged beyond the end of the
// sequence. Returns h, rounded to the I/O type, zero beyond the end.
template <class Io, class Element>
LSTMREP_DEVICE Io forward_step(const RecurrenceForwardArgs& a, const Element& e, int step,
                               const GateValues<float>& z, const PeepholeValues<float>& p,
                               float& c) {
  const RecurrenceShape& s = a.shape;
  const int64_t row = e.frame_row(s, step);
  CellOutput<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
  Io h = from_float<Io>(0.0f);
  if (e.active(step)) {
    out = s.relu ? cell_forward<CellKind::kRelu, DeviceMath>(z, c, p)
                 : cell_forward<CellKind::kTanh, DeviceMath>(z, c, p);
    c = out.c;
    h = from_float<Io>(out.h);
    if (step == e.length - 1) static_cast<Io*>(a.h_n)[e.state(s)] = h;
  }
  static_cast<Io*>(a.h)[row * s.h + e.unit] = h;
  if (a.c) a.c[row * s.h + e.unit] = out.c;
  if (a.gates) store_gates(static_cast<Io*>(a.gates) + row * 4 * s.h + e.unit, s.h, out.gates);
  return h;
}

// What the backward pass reads of a step for one element.
template <class Io>
struct SavedStep {
  Io gates[kGates], grad_h;
  float c, c_prev;
};

// Of an active step.
template <class Io, class Element>
LSTMREP_DEVICE SavedStep<Io> load_saved(const RecurrenceBackwardArgs& a, const Element& e,
                                        int step) {
  const RecurrenceShape& s = a.shape;
  const int64_t h = again(s.h), row = e.frame_row(s, step), at = row * h + e.unit;
  const Io* gates = static_cast<const Io*>(a.gates) + row * 4 * h + e.unit;
  const float* before = step > 0 ? a.c + e.frame_row(s, step - 1) * h + e.unit
                        : a.c0   ? a.c0 + e.start(s)
                                 : nullptr;
  SavedStep<Io> v = {};
  LSTMREP_UNROLL
  for (int m = 0; m < kGates; ++m) v.gates[m] = gates[m * h];
  v.c = a.c[at];
  if (before) v.c_prev = *before;
  if (a.grad_h) v.grad_h = static_cast<const Io*>(a.grad_h)[at];
  return v;
}

template <class Io, class Element>
LSTMREP_DEVICE float load_grad_h_n(const RecurrenceBackwardArgs& a, const Element& e) {
  return a.grad_h_n ? to_float(static_cast<const Io*>(a.grad_h_n)[e.state(a.shape)]) : 0.0f;
}

// dh: what comes through W_hh from the step after. dc: gradient of c after the step, and out before
// it. total: gains the element's part of the bias and peephole gradients. Returns the gate
// gradients, zero beyond the end of the sequence.
template <class Io, class Element>
LSTMREP_DEVICE GateValues<float> backward_step(const RecurrenceBackwardArgs& a, const Element& e,
                                               int step, const SavedStep<Io>& v,
                                               const PeepholeValues<float>& p, float dh, float& dc,
                                               float (&total)[kRecurrenceSums]) {
  const RecurrenceShape& s = a.shape;
  CellGradient<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f};
  if (e.active(step)) {
    if (step == e.length - 1) dh = load_grad_h_n<Io>(a, e);
    dh += to_float(v.grad_h);
    const GateValues<float> gates = {to_float(v.gates[0]), to_float(v.gates[1]),
                                     to_float(v.gates[2]), to_float(v.gates[3])};
    out = s.relu ? cell_backward<CellKind::kRelu, DeviceMath>(gates, v.c_prev, v.c, p, dh, dc)
                 : cell_backward<CellKind::kTanh, DeviceMath>(gates, v.c_prev, v.c, p, dh, dc);
    dc = out.dc_prev;
    total[0] += out.d.i;
    total[1] += out.d.f;
    total[2] += out.d.g;
    total[3] += out.d.o;
    total[4] += v.c_prev * out.d.i;
    total[5] += v.c_prev * out.d.f;
    total[6] += v.c * out.d.o;
  }
  Io* to = static_cast<Io*>(a.d_gates) + e.frame_row(s, step) * 4 * s.h + e.unit;
  store_gates(to, s.h, out.d);
  return out.d;
}

}  // namespace lstmrep
