// What the products with W_hh read, and how an instruction set multiplies it.
//
// For an I/O type S, Product<S> says
//   Operand   type of both factors in scratch memory: the compute type C, or bfloat16 itself where
//             the instruction set multiplies pairs of bfloat16 (AVX512-BF16)
//   kPair     operands of one sum that lie side by side: 1, or 2 for bfloat16
//   Column    a vector of kLanes<C> columns, kPair operands each
//   splat     a[0 : kPair] in every column;  add: acc + x w in every column, in C
// h recurs rounded to S, so forward loses nothing to bfloat16 operands; backward rounds the gate
// gradients that it multiplies with W_hh, as the CUDA kernels do, and as d_gates are stored anyway.
// Pairs are added with subnormal numbers taken as zero.
#pragma once

#include "cpu/simd.h"

#if defined(__AVX512BF16__)
#define LSTMREP_PAIRS 1
#else
#define LSTMREP_PAIRS 0
#endif

namespace lstmrep {
namespace {

template <class S>
struct Product {
  using C = typename Io<S>::C;
  using Operand = C;
  using Column = Vec<C>;
  static constexpr int kPair = 1;
  static constexpr int kDepthUnit = 1;
  static LSTMREP_VECTOR_INLINE Column splat(const Operand* a) { return lstmrep::splat<Column>(*a); }
  static LSTMREP_VECTOR_INLINE Vec<C> add(Vec<C> acc, Column x, Column w) { return acc + x * w; }
};

#if LSTMREP_PAIRS
template <>
struct Product<BFloat16> {
  using C = float;
  using Operand = BFloat16;
  using Column = VecI;
  static constexpr int kPair = 2;
  static constexpr int kDepthUnit = 32;  // of a tile product; see tiles.h
  static LSTMREP_VECTOR_INLINE Column splat(const Operand* a) {
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return (Column)_mm512_set1_epi32(pair);
  }
  static LSTMREP_VECTOR_INLINE VecF add(VecF acc, Column x, Column w) {
    return (VecF)_mm512_dpbf16_ps((__m512)acc, (__m512bh)x, (__m512bh)w);
  }
};
#endif

template <class S>
using Operand = typename Product<S>::Operand;

// Values as they are stored are operands: no conversion.
template <class S>
constexpr bool kStoredAsOperand = sizeof(S) == sizeof(Operand<S>);

// Stores a value twice, as it is kept and as it recurs: rounded once where both are the same.
template <class S>
LSTMREP_VECTOR_INLINE void store_both(S* kept, Operand<S>* recurring, Vec<typename Io<S>::C> v,
                                      int64_t count) {
  if constexpr (Product<S>::kPair == 2) {  // operands are bfloat16, as S is
    const VecH bits = narrow_bfloat16(v);
    store_first(kept, bits, count);
    store_first(recurring, bits, count);
  } else {
    Io<S>::store(kept, v, count);
    Io<Operand<S>>::store(recurring, v, count);
  }
}

// Asks for the slice of W_hh that is read after the one at hand, a few lines between products:
// hardware follows neither the stride of tiles nor the turns from one panel to the next.
struct Ahead {
  const char* next;  // null: what is read next is in the cache
  int lines;         // of each call

  LSTMREP_VECTOR_INLINE void operator()() {
    if (!next) return;
    for (int j = 0; j < lines; ++j) __builtin_prefetch(next + 64 * j, 0, 2);
    next += 64 * lines;
  }
};

// Depth of a product as panels and their factors hold it: zeros behind K.
template <class S>
constexpr int64_t padded_depth(int64_t k) {
  constexpr int64_t kUnit = Product<S>::kDepthUnit;
  return (k + kUnit - 1) / kUnit * kUnit;
}

static inline float to_compute(float x) { return x; }
static inline double to_compute(double x) { return x; }
static inline float to_compute(BFloat16 x) { return bfloat16_to_float(x); }

}  // namespace
}  // namespace lstmrep
