// Operands of the products with W_hh: types, a lane's share of a block of K, and its
// multiplication.
//
// A block is 64 bytes of K; lane (g, t) = (lane / 4, lane % 4) of a warp has 16 bytes of it, the
// same 16 for weights and operand: elements E t .. E t + E - 1 of the block, E = 16 / sizeof(O).
// That is a permutation of K within two mma steps, which a sum over K does not see, and it makes
// every access a 16-byte one.
#pragma once

#include "cuda/primitives/convert.h"
#include "cuda/primitives/mma.h"
#include "cuda/primitives/shuffle.h"
#include "cuda/primitives/vector.h"
#include "cuda/recurrence/arguments.h"

namespace lstmrep {

// O -> the I/O type, whether tensor cores multiply it, and its rounding.
template <class O>
struct OperandOf {
  using Io = O;
  static constexpr bool kTensor = true;
  LSTMREP_DEVICE static O round(float x) { return from_float<O>(x); }
  LSTMREP_DEVICE static uint32_t weight_word(uint32_t word) { return word; }
};

template <>
struct OperandOf<Tf32> {
  using Io = float;
  static constexpr bool kTensor = true;
  LSTMREP_DEVICE static Tf32 round(float x) { return round_to_tf32(x); }
  LSTMREP_DEVICE static uint32_t weight_word(uint32_t word) {
    return float_to_word(round_to_tf32(word_to_float(word)).value);
  }
};

template <>
struct OperandOf<float> {
  using Io = float;
  static constexpr bool kTensor = false;
  LSTMREP_DEVICE static float round(float x) { return x; }
  LSTMREP_DEVICE static uint32_t weight_word(uint32_t word) { return word; }
};

// A lane's weights of a block, of two rows of a tile of 16. Tensor cores: the fragments of the two
// mma steps, which then lie in neighbouring registers wherever they come from. Else: the two rows.
struct WeightBlock {
  Words part[2];
};

// low, high: 16 bytes of either row along K.
template <class O>
LSTMREP_DEVICE WeightBlock weight_block(const Words& low, const Words& high) {
  if (!OperandOf<O>::kTensor) return {{low, high}};
  return {
      {{{low.w[0], high.w[0], low.w[1], high.w[1]}}, {{low.w[2], high.w[2], low.w[3], high.w[3]}}}};
}

// Tensor cores: 16 rows of weights times 8 columns of which the lane has column g. d: as in mma.h.
template <class O>
LSTMREP_DEVICE void multiply_block(float (&d)[4], const WeightBlock& a, const Words& b) {
  const uint32_t b0[2] = {b.w[0], b.w[1]}, b1[2] = {b.w[2], b.w[3]};
  mma<O>(d, a.part[0].w, b0);
  mma<O>(d, a.part[1].w, b1);
}

// 16 bytes of weights along K for one unit of one gate, from that gate's [H, H] part of W_hh:
// forward elements [unit][k ..], backward [k ..][unit]. Zeros for units and k beyond H.
// whole: rows are made of aligned 16 bytes.
template <class O, bool kForward>
LSTMREP_DEVICE Words load_weights(const typename OperandOf<O>::Io* gate, int h, int unit, int k,
                                  bool whole) {
  using Io = typename OperandOf<O>::Io;
  constexpr int kElements = 16 / static_cast<int>(sizeof(O));
  Words out = {{0, 0, 0, 0}};
  if (unit >= h || k >= h) return out;
  if (kForward && whole) {
    out = load_words(gate + int64_t{unit} * h + k);
  } else {
    Io element[kElements] = {};
    LSTMREP_UNROLL
    for (int e = 0; e < kElements; ++e) {
      if (k + e >= h) break;
      element[e] = kForward ? gate[int64_t{unit} * h + k + e] : gate[int64_t{k + e} * h + unit];
    }
    pack(element, out);
  }
  LSTMREP_UNROLL
  for (int j = 0; j < 4; ++j) out.w[j] = OperandOf<O>::weight_word(out.w[j]);
  return out;
}

// What load_weights<O, false> gives lanes l, l ^ 4, l ^ 8 and l ^ 12 for four neighbouring units,
// of which a lane has number lane / 4 % 4: each reads all four at a quarter of K, and they
// exchange. For matrices whose rows are made of aligned groups of four (whole_columns); units: the
// first of four.
template <class O>
LSTMREP_DEVICE Words load_columns(const typename OperandOf<O>::Io* gate, int h, int units, int k,
                                  int lane) {
  constexpr int kRows = 4 / static_cast<int>(sizeof(O));  // of K in a word
  const int own = lane / 4 % 4, from = k + own * kRows;
  Words w = {{0, 0, 0, 0}};  // of unit j in word j, then of quarter j of K
  if (units < h && from < h) {
    const auto* row = gate + int64_t{from} * h + units;
    if constexpr (kRows == 1) {
      w = load_words(row);
    } else {
      const WordPair a = load_word_pair(row), b = load_word_pair(row + h);
      LSTMREP_UNROLL
      for (int j = 0; j < 2; ++j) {
        w.w[2 * j] = (a.w[j] & 0xFFFFu) | b.w[j] << 16;
        w.w[2 * j + 1] = a.w[j] >> 16 | (b.w[j] & 0xFFFF0000u);
      }
    }
  }
  LSTMREP_UNROLL
  for (int bit = 1; bit <= 2; bit *= 2) {
    LSTMREP_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (j & bit) continue;
      const bool upper = own & bit;
      const uint32_t got = from_lane_xor(upper ? w.w[j] : w.w[j + bit], 4 * bit);
      if (upper) {
        w.w[j] = got;
      } else {
        w.w[j + bit] = got;
      }
    }
  }
  LSTMREP_UNROLL
  for (int j = 0; j < 4; ++j) w.w[j] = OperandOf<O>::weight_word(w.w[j]);
  return w;
}

// Whether load_columns may be used.
template <class O>
LSTMREP_DEVICE bool whole_columns(const void* w_hh, int h) {
  return h % 4 == 0 && reinterpret_cast<uintptr_t>(w_hh) % (4 * sizeof(O)) == 0;
}

// Whether load_weights may read rows 16 bytes at a time.
template <class O>
LSTMREP_DEVICE bool whole_rows(const void* w_hh, int h) {
  return h % (16 / static_cast<int>(sizeof(O))) == 0 && reinterpret_cast<uintptr_t>(w_hh) % 16 == 0;
}

}  // namespace lstmrep
