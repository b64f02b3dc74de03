// The cell of one step on the device, elementwise over (recurrence, row, unit); grid-stride.
//
// Forward turns h' W_hh^T of a step into gates, c and h; backward turns d_{t+1} W_hh into the gate
// gradients of the step. The two GEMMs per step are the caller's. Equations: cell/lstm_cell.h.
// Step t of a row is frame t, or length - 1 - t in a reversed recurrence; from its length on a
// row keeps its state and gets zeros at frame t. Backward enters a row at its last active step
// with grad_h_n and grad_c_n, whatever dh_recurrent and dc hold. Each element is read before it is
// overwritten, so gates may alias gates_x, and d_gates gates.
// Also compiles as plain C++, over tests/emulator.
#pragma once

#include "cell/lstm_cell.h"
#include "cuda/pointwise/config.h"
#include "cuda/primitives/convert.h"
#include "cuda/primitives/device.h"
#include "cuda/primitives/gates.h"
#include "cuda/primitives/math.h"

namespace lstmrep {

// Where an element lives: offsets into the arrays of config.h.
struct PointwiseElement {
  int64_t recurrence, unit;
  int64_t state;  // [N, B, H]
  int64_t gate;   // [N, B, 4H], gate i
  int64_t h;      // [N, T, B, H], at the frame of the step
  int64_t gates;  // [N, T, B, 4H], gate i, at the frame of the step
  int64_t length;
  bool active, reversed;
};

LSTMREP_INLINE PointwiseElement pointwise_element(const PointwiseShape& s, const int32_t* lengths,
                                                  uint32_t index) {
  const uint32_t row = index / static_cast<uint32_t>(s.h);
  const uint32_t n = row / static_cast<uint32_t>(s.b);
  PointwiseElement e;
  e.recurrence = n;
  e.unit = index % static_cast<uint32_t>(s.h);
  e.state = index;
  e.gate = int64_t{row} * 4 * s.h + e.unit;
  int32_t length = lengths ? lengths[row] : s.t;
  length = length < 0 ? 0 : length > s.t ? s.t : length;
  e.length = length;
  e.active = s.step < length;
  e.reversed = (s.reverse >> n) & 1u;
  const int64_t frame = e.active && e.reversed ? length - 1 - s.step : s.step;
  const int64_t frame_row = (int64_t{n} * s.t + frame) * s.b + row % static_cast<uint32_t>(s.b);
  e.h = frame_row * s.h + e.unit;
  e.gates = frame_row * 4 * s.h + e.unit;
  return e;
}

LSTMREP_INLINE PeepholeValues<float> pointwise_peephole(const float* peephole,
                                                        const PointwiseElement& e, int64_t h) {
  if (!peephole) return {false, 0.0f, 0.0f, 0.0f};
  const float* first = peephole + e.recurrence * 3 * h + e.unit;
  return {true, first[0], first[h], first[2 * h]};
}

template <class S, CellKind kCell>
__global__ void __launch_bounds__(kPointwiseThreads)
    pointwise_forward_kernel(const PointwiseForwardArgs a) {
  const int64_t h = a.shape.h;
  const uint32_t total = static_cast<uint32_t>(a.shape.n) * a.shape.b * a.shape.h;
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t j = blockIdx.x * blockDim.x + threadIdx.x; j < total; j += stride) {
    const PointwiseElement e = pointwise_element(a.shape, a.lengths, j);
    CellOutput<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
    if (e.active) {
      float z[kGates];
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        z[g] = a.recurrent ? a.recurrent[e.gate + g * h] : 0.0f;
        if (a.gates_x) z[g] += to_float(static_cast<const S*>(a.gates_x)[e.gates + g * h]);
        if (a.bias) z[g] += a.bias[(e.recurrence * 4 + g) * h + e.unit];
      }
      out =
          cell_forward<kCell, DeviceMath>(GateValues<float>{z[0], z[1], z[2], z[3]},
                                          a.c_state[e.state], pointwise_peephole(a.peephole, e, h));
      a.c_state[e.state] = out.c;
      static_cast<S*>(a.h_state)[e.state] = from_float<S>(out.h);
    }
    static_cast<S*>(a.h)[e.h] = from_float<S>(out.h);
    if (a.c) a.c[e.h] = out.c;
    if (a.gates) store_gates(static_cast<S*>(a.gates) + e.gates, h, out.gates);
  }
}

template <class S, CellKind kCell>
__global__ void __launch_bounds__(kPointwiseThreads)
    pointwise_backward_kernel(const PointwiseBackwardArgs a) {
  const int64_t h = a.shape.h;
  const uint32_t total = static_cast<uint32_t>(a.shape.n) * a.shape.b * a.shape.h;
  const uint32_t stride = gridDim.x * blockDim.x;
  for (uint32_t j = blockIdx.x * blockDim.x + threadIdx.x; j < total; j += stride) {
    const PointwiseElement e = pointwise_element(a.shape, a.lengths, j);
    CellGradient<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f};
    if (e.active) {
      float dh = 0.0f, dc = 0.0f;
      if (a.shape.step == e.length - 1) {
        if (a.grad_h_n) dh = to_float(static_cast<const S*>(a.grad_h_n)[e.state]);
        if (a.grad_c_n) dc = a.grad_c_n[e.state];
      } else {
        if (a.dh_recurrent) dh = a.dh_recurrent[e.state];
        dc = a.dc[e.state];
      }
      if (a.grad_h) dh += to_float(static_cast<const S*>(a.grad_h)[e.h]);
      float c_prev = 0.0f;
      if (a.shape.step > 0) {
        // The frame of the step before: one later in a reversed recurrence.
        const int64_t frame = int64_t{a.shape.b} * h;
        c_prev = a.c[e.reversed ? e.h + frame : e.h - frame];
      } else if (a.c0) {
        c_prev = a.c0[e.state];
      }
      const float c_now = a.c[e.h];
      const S* gates = static_cast<const S*>(a.gates) + e.gates;
      const GateValues<float> v = {to_float(gates[0]), to_float(gates[h]), to_float(gates[2 * h]),
                                   to_float(gates[3 * h])};
      out = cell_backward<kCell, DeviceMath>(v, c_prev, c_now, pointwise_peephole(a.peephole, e, h),
                                             dh, dc);
      a.dc[e.state] = out.dc_prev;
      if (a.sums) {
        float* sums = a.sums + (e.state - e.unit) * kPointwiseSums + e.unit;
        sums[0] += out.d.i;
        sums[h] += out.d.f;
        sums[2 * h] += out.d.g;
        sums[3 * h] += out.d.o;
        sums[4 * h] += c_prev * out.d.i;
        sums[5 * h] += c_prev * out.d.f;
        sums[6 * h] += c_now * out.d.o;
      }
    }
    store_gates(static_cast<S*>(a.d_gates) + e.gates, h, out.d);
    store_gates(static_cast<S*>(a.d_step) + e.gate, h, out.d);
  }
}

}  // namespace lstmrep
