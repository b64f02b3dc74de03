// The recurrence of a few rows over the whole sequence, backward: one CTA, one barrier a step.
//
// Step t, last first: the saved values are loaded while the product d_{t+1} W_hh runs; each lane
// turns its elements' dh and dc into four gate gradients, which go to their frame and to the other
// operand buffer; dc and the bias and peephole sums stay in registers. After the first step one
// more product gives the gradient of h0. Sums over CTAs are formed by the last one to come, in the
// order of the CTAs (sums.cuh). dW_hh is one library product over all frames afterwards.
#pragma once

#include "cuda/cta_resident/cta.cuh"
#include "cuda/cta_resident/sums.cuh"
#include "cuda/primitives/gates.h"
#include "cuda/primitives/math.h"

namespace lstmrep {

// What a lane reads of a step for one element.
struct SavedStep {
  GateValues<float> gates;
  float c, c_prev, grad_h;
};

template <class Io>
LSTMREP_DEVICE SavedStep load_saved(const ResidentBackwardArgs& a, const ResidentElement& e,
                                    int step) {
  const ResidentShape& s = a.shape;
  const int64_t row = e.frame_row(s, step), at = row * s.h + e.unit;
  const Io* gates = static_cast<const Io*>(a.gates) + row * 4 * s.h + e.unit;
  SavedStep v;
  v.gates = {to_float(gates[0]), to_float(gates[s.h]), to_float(gates[2 * s.h]),
             to_float(gates[3 * s.h])};
  v.c = a.c[at];
  v.c_prev = 0.0f;
  if (step > 0) {
    v.c_prev = a.c[e.frame_row(s, step - 1) * s.h + e.unit];
  } else if (a.c0) {
    v.c_prev = a.c0[e.start(s)];
  }
  v.grad_h = a.grad_h ? to_float(static_cast<const Io*>(a.grad_h)[at]) : 0.0f;
  return v;
}

template <class O, bool kWide>
__global__ void __launch_bounds__(resident_most_warps(kWide) * kWarp)
    resident_backward_kernel(const __grid_constant__ ResidentBackwardArgs a) {
  using Io = typename OperandOf<O>::Io;
  const ResidentShape& s = a.shape;
  ResidentCta<O, false, kWide> cta(s, a.w_hh[blockIdx.y]);
  ResidentElement element[kResidentSlots];
  float dc[kResidentSlots];         // gradient of c after the step at hand
  float total[kResidentSums] = {};  // both slots are of one unit
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    element[j] = cta.element(s, a.lengths, j);
    const ResidentElement& e = element[j];
    dc[j] = e.exists && a.grad_c_n ? a.grad_c_n[e.state(s)] : 0.0f;
  }
  const PeepholeValues<float> p = resident_peephole<Io>(s, a.peephole, element[0].unit);

  for (int step = s.t - 1; step >= 0; --step) {
    SavedStep saved[kResidentSlots];
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      saved[j] = {};
      if (element[j].exists && element[j].active(step)) {
        saved[j] = load_saved<Io>(a, element[j], step);
      }
    }
    __syncthreads();  // the gate gradients of the step after are complete
    float dh[1][kResidentSlots];
    cta.product(dh);
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      const ResidentElement& e = element[j];
      if (!e.exists) continue;
      CellGradient<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f};
      if (e.active(step)) {
        float d = dh[0][j];
        if (step == e.length - 1) {
          d = a.grad_h_n ? to_float(static_cast<const Io*>(a.grad_h_n)[e.state(s)]) : 0.0f;
        }
        const SavedStep& v = saved[j];
        d += v.grad_h;
        out = s.relu
                  ? cell_backward<CellKind::kRelu, DeviceMath>(v.gates, v.c_prev, v.c, p, d, dc[j])
                  : cell_backward<CellKind::kTanh, DeviceMath>(v.gates, v.c_prev, v.c, p, d, dc[j]);
        dc[j] = out.dc_prev;
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
      const float d[kGates] = {out.d.i, out.d.f, out.d.g, out.d.o};
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) {
        *cta.next.at(e.row, m * cta.padded + e.unit) =
            OperandOf<O>::round(to_float(from_float<Io>(d[m])));
      }
    }
    cta.swap();
  }

  float dh0[kResidentSlots] = {};
  if (a.d_h0) {
    __syncthreads();  // the gate gradients of the first step are complete
    float dh[1][kResidentSlots];
    cta.product(dh);
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      const ResidentElement& e = element[j];
      if (!e.exists) continue;
      float d = dh[0][j];
      // A row without a step hands its last state's gradient through (dc already holds it).
      if (e.length == 0) {
        d = a.grad_h_n ? to_float(static_cast<const Io*>(a.grad_h_n)[e.state(s)]) : 0.0f;
      }
      dh0[j] = d;
    }
  }
  store_start_gradients<Io>(a, element, dh0, dc);
  if (!a.vectors) return;
  // Over the rows of the CTA: lanes t and t ^ 1 of a quad share a unit.
  const int owner = cta.unit + cta.t / 2;
  float* to = a.sums + resident_part(blockIdx.x) * resident_sums_pitch(s.h);
  LSTMREP_UNROLL
  for (int k = 0; k < kResidentSums; ++k) {
    const float sum = total[k] + from_lane_xor(total[k], 1);
    if (cta.t % 2 == 0 && owner < s.h) to[k * s.h + owner] = sum;
  }
  add_vector_sums<Io>(a);
}

}  // namespace lstmrep
