// What both passes of a CTA work with: its warps' weights, two operand buffers, who its lanes are.
#pragma once

#include "cell/lstm_cell.h"
#include "cuda/cta_resident/element.cuh"
#include "cuda/cta_resident/weights.cuh"

namespace lstmrep {

// Zeros in all operand buffers: padding of K and rows that do not exist stay zero.
LSTMREP_DEVICE void clear_shared(char* from, size_t bytes) {
  for (size_t j = threadIdx.x * 16; j < bytes; j += blockDim.x * 16) {
    store_words(from + j, {{0, 0, 0, 0}});
  }
}

template <class O, bool kForward, bool kWide>
struct ResidentCta {
  using Weights = ResidentWeights<O, kForward, kWide>;
  using Operand = typename Weights::Operand;
  static constexpr int kSums = kForward ? kGates : 1;

  int g, t;     // of the lane, see operand.cuh
  int unit;     // the lane's first of two
  int pattern;  // rows as they are laid out
  int padded;   // H in whole blocks of K
  Operand now, next;
  Weights weights;

  // Loads the weights and clears both buffers, which the caller's next barrier makes seen.
  LSTMREP_DEVICE ResidentCta(const RecurrenceShape& s, const void* w_hh) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const ResidentSizes sizes = resident_sizes(s.h, s.rows, sizeof(O), Weights::kTensor, !kForward);
    g = lane / 4;
    t = lane % 4;
    unit = warp * kResidentUnits + 2 * g;
    pattern = resident_pattern(s.rows);
    padded = sizes.padded;
    char* shared = dynamic_shared();
    char* buffers = shared + sizes.weights;
    now = {buffers, sizes.pitch, pattern};
    next = {buffers + sizes.operand, sizes.pitch, pattern};
    clear_shared(buffers, 2 * sizes.operand);
    weights.load(w_hh, s.h, unit, t, lane, sizes.blocks,
                 shared + sizes.weights / sizes.warps * warp);
  }

  LSTMREP_DEVICE ResidentElement element(const RecurrenceShape& s, const int32_t* lengths,
                                         int slot) const {
    return resident_element(s, lengths, unit, t, pattern, slot);
  }

  // The operand times the weights, for the lane's elements: forward of each gate, backward dh.
  LSTMREP_DEVICE void product(float (&out)[kSums][kResidentSlots]) const {
    typename Weights::Sum sums[kGates];
    weights.product(now, g, t, sums);
    LSTMREP_UNROLL
    for (int m = 0; m < kSums; ++m) sums[m].owned(pattern, t, out[m]);
  }

  LSTMREP_DEVICE void swap() {
    const Operand other = now;
    now = next;
    next = other;
  }
};

}  // namespace lstmrep
