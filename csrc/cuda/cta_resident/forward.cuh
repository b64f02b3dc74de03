// The recurrence of a few rows over the whole sequence, forward: one CTA, one barrier a step.
//
// Step t: the loads that need no h are issued, the product h' W_hh^T runs from registers and shared
// memory, each lane runs the cell of its elements in registers, h goes to the other operand buffer.
// c never leaves the lane's registers. Frames, lengths and start states: docs/kernels.
#pragma once

#include "cell/lstm_cell.h"
#include "cuda/cta_resident/element.cuh"
#include "cuda/cta_resident/weights.cuh"
#include "cuda/primitives/gates.h"
#include "cuda/primitives/math.h"

namespace lstmrep {

LSTMREP_DEVICE PeepholeValues<float> resident_peephole(const float* peephole, int64_t h, int unit) {
  if (!peephole) return {false, 0.0f, 0.0f, 0.0f};
  const float* first = peephole + int64_t{blockIdx.y} * 3 * h + unit;
  return {true, first[0], first[h], first[2 * h]};
}

// Zeros in all operand buffers: padding of K and rows that do not exist stay zero.
LSTMREP_DEVICE void clear_shared(char* from, size_t bytes) {
  for (size_t j = threadIdx.x * 16; j < bytes; j += blockDim.x * 16) {
    store_words(from + j, {{0, 0, 0, 0}});
  }
}

template <class O, bool kWide>
__global__ void __launch_bounds__(resident_most_warps(kWide) * kWarp)
    resident_forward_kernel(const __grid_constant__ ResidentForwardArgs a) {
  using Io = typename OperandOf<O>::Io;
  using Weights = ResidentWeights<O, true, kWide>;
  using Operand = typename Weights::Operand;

  const ResidentShape& s = a.shape;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const ResidentSizes sizes = resident_sizes(s.h, s.rows, sizeof(O), Weights::kTensor, false);
  const int pattern = resident_pattern(s.rows);
  char* shared = dynamic_shared();
  char* buffers = shared + sizes.weights;
  Operand now{buffers, sizes.pitch, pattern}, next{buffers + sizes.operand, sizes.pitch, pattern};
  clear_shared(buffers, 2 * sizes.operand);

  Weights weights;
  const int unit = warp * kResidentUnits + 2 * g;
  weights.load(a.w_hh[blockIdx.y], s.h, unit, t, lane, sizes.blocks,
               shared + sizes.weights / sizes.warps * warp);

  ResidentElement element[kResidentSlots];
  float c[kResidentSlots];
  __syncthreads();  // the buffers are clear
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    element[j] = resident_element(s, a.lengths, unit, t, pattern, j);
    const ResidentElement& e = element[j];
    c[j] = e.exists && a.c0 ? a.c0[e.state] : 0.0f;
    if (!e.exists) continue;
    const Io h = a.h0 ? static_cast<const Io*>(a.h0)[e.state] : from_float<Io>(0.0f);
    *now.at(e.row, e.unit) = OperandOf<O>::round(to_float(h));
    static_cast<Io*>(a.h_n)[e.state] = h;
  }

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
        if (a.bias) {
          x[j][m] += a.bias[(int64_t{blockIdx.y} * kGates + m) * s.h + element[j].unit];
        }
      }
    }
    __syncthreads();  // h of the step before is complete
    typename Weights::Sum sums[kGates];
    weights.product(now, g, t, sums);
    float z[kGates][kResidentSlots];
    LSTMREP_UNROLL
    for (int m = 0; m < kGates; ++m) sums[m].owned(pattern, t, z[m]);
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
        const PeepholeValues<float> p = resident_peephole(a.peephole, s.h, e.unit);
        out = s.relu ? cell_forward<CellKind::kRelu, DeviceMath>(sum, c[j], p)
                     : cell_forward<CellKind::kTanh, DeviceMath>(sum, c[j], p);
        c[j] = out.c;
        h = from_float<Io>(out.h);
        *next.at(e.row, e.unit) = OperandOf<O>::round(to_float(h));
        if (step == e.length - 1) static_cast<Io*>(a.h_n)[e.state] = h;
      }
      static_cast<Io*>(a.h)[row * s.h + e.unit] = h;
      if (a.c) a.c[row * s.h + e.unit] = out.c;
      if (a.gates) store_gates(static_cast<Io*>(a.gates) + row * 4 * s.h + e.unit, s.h, out.gates);
    }
    const Operand swap = now;
    now = next;
    next = swap;
  }
  LSTMREP_UNROLL
  for (int j = 0; j < kResidentSlots; ++j) {
    if (element[j].exists) a.c_n[element[j].state] = c[j];
  }
}

}  // namespace lstmrep
