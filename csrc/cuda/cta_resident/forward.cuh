// The recurrence of a few rows over the whole sequence, forward: one CTA, one barrier a step.
//
// Step t: the loads that need no h are issued, the product h' W_hh^T runs from registers and shared
// memory, each lane runs the cell of its elements in registers, h goes to the other operand buffer.
// c never leaves the lane's registers. Frames, lengths and start states: docs/kernels.
#pragma once

#include "cuda/cta_resident/cta.cuh"
#include "cuda/primitives/gates.h"
#include "cuda/primitives/math.h"

namespace lstmrep {

template <class O, bool kWide>
__global__ void __launch_bounds__(resident_most_warps(kWide) * kWarp)
    resident_forward_kernel(const __grid_constant__ ResidentForwardArgs a) {
  using Io = typename OperandOf<O>::Io;
  const ResidentShape& s = a.shape;
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
  const int unit = element[0].unit;
  const void* const bias = a.bias[blockIdx.y];

  for (int step = 0; step < s.t; ++step) {
    float x[kResidentSlots][kGates];
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) x[j][m] = 0.0f;
      if (!element[j].exists || !element[j].active(step)) continue;
      const int64_t first = element[j].frame_row(s, step) * 4 * s.h + element[j].unit;
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) {
        if (a.gates_x) x[j][m] = to_float(static_cast<const Io*>(a.gates_x)[first + m * s.h]);
        if (bias) x[j][m] += vector_at<Io>(s, bias, m * s.h + unit);
      }
    }
    __syncthreads();  // h of the step before is complete
    float z[kGates][kResidentSlots];
    cta.product(z);
    LSTMREP_UNROLL
    for (int j = 0; j < kResidentSlots; ++j) {
      const ResidentElement& e = element[j];
      if (!e.exists) continue;
      const int64_t row = e.frame_row(s, step);
      CellOutput<float> out = {{0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
      Io h = from_float<Io>(0.0f);
      if (e.active(step)) {
        const GateValues<float> sum = {x[j][0] + z[0][j], x[j][1] + z[1][j], x[j][2] + z[2][j],
                                       x[j][3] + z[3][j]};
        const PeepholeValues<float> p = resident_peephole<Io>(s, a.peephole, unit);
        out = s.relu ? cell_forward<CellKind::kRelu, DeviceMath>(sum, c[j], p)
                     : cell_forward<CellKind::kTanh, DeviceMath>(sum, c[j], p);
        c[j] = out.c;
        h = from_float<Io>(out.h);
        *cta.next.at(e.row, e.unit) = OperandOf<O>::round(to_float(h));
        if (step == e.length - 1) static_cast<Io*>(a.h_n)[e.state(s)] = h;
      }
      static_cast<Io*>(a.h)[row * s.h + e.unit] = h;
      if (a.c) a.c[row * s.h + e.unit] = out.c;
      if (a.gates) store_gates(static_cast<Io*>(a.gates) + row * 4 * s.h + e.unit, s.h, out.gates);
    }
    cta.swap();
  }
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    if (element[j].exists) a.c_n[element[j].state(s)] = c[j];
  }
}

}  // namespace lstmrep
