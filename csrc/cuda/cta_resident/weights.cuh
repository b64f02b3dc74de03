// W_hh of one warp's 16 hidden units, loaded once, and its product with an operand.
//
// Forward, gate m: A[unit][k] = W_hh[m H + unit][k], one sum a gate over the same operand blocks.
// Backward, gate m: A[unit][q] = W_hh[m H + q][unit], a quarter of one sum each: four independent
// chains, added at the end. Either way 4 gates x `blocks` blocks, the first kHeld of each gate in
// registers, the rest in shared memory as [block][gate][part][lane] of 16 bytes.
// Units and k beyond H are zeros.
#pragma once

#include "cuda/cta_resident/operand.cuh"

namespace lstmrep {

template <class O, bool kForward, bool kWide>
struct ResidentWeights {
  using Io = typename OperandOf<O>::Io;
  static constexpr bool kTensor = OperandOf<O>::kTensor;
  static constexpr int kHeld = resident_held(kTensor, kWide, !kForward);
  using Operand = typename ResidentOperand<O>::Type;
  using Sum = typename Operand::Sum;
  static constexpr int kElements = 16 / static_cast<int>(sizeof(O));  // of a lane in a block
  static constexpr int kBlock = 4 * kElements;
  static constexpr int kTile = 16 * kWarp;  // bytes: 16 of each lane

  WeightBlock held[kHeld][kGates];
  char* rest;  // this lane's place in shared memory
  int blocks;

  // shared: the warp's part. unit: the lane's first of two.
  LSTMREP_DEVICE void load(const void* w_hh, int h, int unit, int t, int lane, int blocks_of_k,
                           char* shared) {
    const Io* w = static_cast<const Io*>(w_hh);
    const bool whole = whole_rows<O>(w, h);
    blocks = blocks_of_k;
    rest = shared + lane * 16;
    LSTMREP_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) {
        held[k][m] = block(w, h, unit, m, k * kBlock + t * kElements, whole);
      }
    }
    for (int k = kHeld; k < blocks; ++k) {
      for (int m = 0; m < kGates; ++m) {
        const WeightBlock made = block(w, h, unit, m, k * kBlock + t * kElements, whole);
        char* to = rest + ((k - kHeld) * kGates + m) * 2 * kTile;
        store_words(to, made.part[0]);
        store_words(to + kTile, made.part[1]);
      }
    }
  }

  LSTMREP_DEVICE void product(const Operand& operand, int g, int t, Sum (&sums)[4]) const {
    if (kTensor || operand.pattern == 4) {
      product_of<4>(operand, g, t, sums);
    } else {
      product_of<2>(operand, g, t, sums);
    }
  }

 private:
  template <int kPattern>
  LSTMREP_DEVICE void product_of(const Operand& operand, int g, int t, Sum (&sums)[4]) const {
    LSTMREP_UNROLL
    for (int k = 0; k < kHeld; ++k) {
      if (k >= blocks) break;
      multiply_block<kPattern>(operand, k, g, t, sums, held[k]);
    }
    for (int k = kHeld; k < blocks; ++k) {
      WeightBlock from_shared[kGates];
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) {
        const char* from = rest + ((k - kHeld) * kGates + m) * 2 * kTile;
        from_shared[m] = {{load_words(from), load_words(from + kTile)}};
      }
      multiply_block<kPattern>(operand, k, g, t, sums, from_shared);
    }
    if (!kForward) {
      sums[0].add(sums[1]);
      sums[2].add(sums[3]);
      sums[0].add(sums[2]);
    }
  }

  template <int kPattern>
  LSTMREP_DEVICE void multiply_block(const Operand& operand, int k, int g, int t, Sum (&sums)[4],
                                     const WeightBlock (&a)[kGates]) const {
    if (kForward) {
      const typename Operand::Part b = operand.part(k, g, t);
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) Operand::template multiply<kPattern>(sums[m], a[m], b);
    } else {
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) {
        Operand::template multiply<kPattern>(sums[m], a[m], operand.part(m * blocks + k, g, t));
      }
    }
  }

  LSTMREP_DEVICE static WeightBlock block(const Io* w, int h, int unit, int gate, int k,
                                          bool whole) {
    const Io* from = w + int64_t{gate} * h * h;
    return weight_block<O>(load_weights<O, kForward>(from, h, unit, k, whole),
                           load_weights<O, kForward>(from, h, unit + 1, k, whole));
  }
};

}  // namespace lstmrep
