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
#include "cuda/recurrence/step.cuh"

namespace lstmrep {

template <class O, bool kWide>
__global__ void __launch_bounds__(resident_most_warps(kWide) * kWarp)
    resident_backward_kernel(const __grid_constant__ RecurrenceBackwardArgs a) {
  using Io = typename OperandOf<O>::Io;
  const RecurrenceShape& s = a.shape;
  ResidentCta<O, false, kWide> cta(s, a.w_hh[blockIdx.y]);
  ResidentElement element[kResidentSlots];
  float dc[kResidentSlots];           // gradient of c after the step at hand
  float total[kRecurrenceSums] = {};  // both slots are of one unit
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    element[j] = cta.element(s, a.lengths, j);
    const ResidentElement& e = element[j];
    dc[j] = e.exists && a.grad_c_n ? a.grad_c_n[e.state(s)] : 0.0f;
  }
  const PeepholeValues<float> p = load_peephole<Io>(s, a.peephole, blockIdx.y, element[0].unit);

  for (int step = s.t - 1; step >= 0; --step) {
    SavedStep<Io> saved[kResidentSlots];
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
      const GateValues<float> out =
          backward_step<Io>(a, e, step, saved[j], p, dh[0][j], dc[j], total);
      const float d[kGates] = {out.i, out.f, out.g, out.o};
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
      // A row without a step hands its last state's gradient through (dc already holds it).
      dh0[j] = e.length == 0 ? load_grad_h_n<Io>(a, e) : dh[0][j];
    }
  }
  store_start_gradients<Io>(a, element, dh0, dc);
  if (!a.vectors) return;
  // Over the rows of the CTA: lanes t and t ^ 1 of a quad share a unit.
  const int owner = cta.unit + cta.t / 2;
  float* to = a.sums + resident_part(blockIdx.x) * sums_pitch(s.h);
  LSTMREP_UNROLL
  for (int k = 0; k < kRecurrenceSums; ++k) {
    const float sum = total[k] + from_lane_xor(total[k], 1);
    if (cta.t % 2 == 0 && owner < s.h) to[k * s.h + owner] = sum;
  }
  add_vector_sums<Io>(a);
}

}  // namespace lstmrep
