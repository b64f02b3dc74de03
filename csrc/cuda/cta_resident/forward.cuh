// The recurrence of a few rows over the whole sequence, forward: one CTA, one barrier a step.
//
// Step t: the loads that need no h are issued, the product h' W_hh^T runs from registers and shared
// memory, each lane runs the cell of its elements in registers, h goes to the other operand buffer.
// c never leaves the lane's registers. Frames, lengths and start states: docs/kernels.
#pragma once

#include "cuda/cta_resident/cta.cuh"
#include "cuda/recurrence/step.cuh"

namespace lstmrep {

template <class O, bool kWide>
__global__ void __launch_bounds__(resident_most_warps(kWide) * kWarp)
    resident_forward_kernel(const __grid_constant__ RecurrenceForwardArgs a) {
  using Io = typename OperandOf<O>::Io;
  const RecurrenceShape& s = a.shape;
  ResidentCta<O, true, kWide> cta(s, a.w_hh[blockIdx.y]);
  ResidentElement element[kResidentSlots];
  float c[kResidentSlots];
  __syncthreads();  // the buffers are clear
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    element[j] = cta.element(s, a.lengths, j);
    const ResidentElement& e = element[j];
    c[j] = e.exists && a.c0 ? a.c0[e.start(s)] : 0.0f;
    if (!e.exists) continue;
    const Io h = a.h0 ? static_cast<const Io*>(a.h0)[e.start(s)] : from_float<Io>(0.0f);
    *cta.now.at(e.row, e.unit) = OperandOf<O>::round(to_float(h));
    static_cast<Io*>(a.h_n)[e.state(s)] = h;
  }

  // Both slots are of one unit.
  const GateValues<float> bias = load_bias<Io>(s, a.bias, blockIdx.y, element[0].unit);
  const PeepholeValues<float> p = load_peephole<Io>(s, a.peephole, blockIdx.y, element[0].unit);

  for (int step = 0; step < s.t; ++step) {
    GateInput<Io> in[kResidentSlots] = {};
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      const ResidentElement& e = element[j];
      if (e.exists && e.active(step)) in[j] = load_input<Io>(a, e, step);
    }
    __syncthreads();  // h of the step before is complete
    float z[kGates][kResidentSlots];
    cta.product(z);
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      const ResidentElement& e = element[j];
      if (!e.exists) continue;
      const float sums[kGates] = {z[0][j], z[1][j], z[2][j], z[3][j]};
      const Io h = forward_step<Io>(a, e, step, gate_sums(in[j], bias, sums), p, c[j]);
      if (e.active(step)) *cta.next.at(e.row, e.unit) = OperandOf<O>::round(to_float(h));
    }
    cta.swap();
  }
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    if (element[j].exists) a.c_n[element[j].state(s)] = c[j];
  }
}

}  // namespace lstmrep
