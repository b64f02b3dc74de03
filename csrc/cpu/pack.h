// Panels of weights, and for gradients of frames, for the products of gemm.h: [depth / pair, 4,
// lanes, pair] operands.
//
//   gate panel (forward)   depth k < K:     panel[k, g, j] = w[g H + u0 + j, k], g a gate
//   unit panel (backward)  depth j < rows:  panel[j, v, l] = w[j, u0 + v lanes + l]
// with kPair values of the depth side by side, and zeros where a unit or a depth is beyond the end.
// Each reads w once in long runs and writes every line of its panel once.
#pragma once

#include "cpu/operand.h"

namespace lstmrep {
namespace {

template <class V, class I>
LSTMREP_VECTOR_INLINE V shuffled(V a, V b, I from) {
#if defined(__clang__)
  V out;
  constexpr int kN = sizeof(V) / sizeof(a[0]);
  for (int l = 0; l < kN; ++l) out[l] = from[l] < kN ? a[from[l]] : b[from[l] - kN];
  return out;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

// Values in 16 bytes, a block of a vector: within blocks values change places in one cycle, between
// blocks they do not.
template <class C>
constexpr int kBlock = 16 / static_cast<int>(sizeof(C));

// 16 bytes from each of as many places as a vector has blocks, one after the other.
template <class V>
LSTMREP_VECTOR_INLINE V gathered(const char* from, int64_t stride) {
#if LSTMREP_VECTOR_BYTES == 64
  auto block = [&](int j) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j * stride));
  };
  __m512i v = _mm512_castsi128_si512(block(0));
  v = _mm512_inserti32x4(v, block(1), 1);
  v = _mm512_inserti32x4(v, block(2), 2);
  return (V)_mm512_inserti32x4(v, block(3), 3);
#elif LSTMREP_VECTOR_BYTES == 32
  auto block = [&](int j) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j * stride));
  };
  return (V)_mm256_inserti128_si256(_mm256_castsi128_si256(block(0)), block(1), 1);
#else
  (void)stride;
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
#endif
}

// Within each block of 16 bytes: a0 b0 a1 b1 of the lower or upper half of its values, `run` of
// them at a time.
template <class C, int kRun, bool kUpper>
LSTMREP_VECTOR_INLINE Vec<C> interleaved(Vec<C> a, Vec<C> b) {
  typedef decltype(a < b) I;
  I from;
  for (int l = 0; l < kLanes<C>; ++l) {
    const int within = l % kBlock<C>, block = l - within;
    const int source =
        block + within / (2 * kRun) * kRun + within % kRun + (kUpper ? kBlock<C> / 2 : 0);
    from[l] = within / kRun % 2 ? kLanes<C> + source : source;
  }
  return shuffled(a, b, from);
}

// out[d, j] = in[j, d], kLanes values of the size of C each way; strides in bytes of the rows of in
// and in values of those of out. Rows j are loaded so that what becomes one row of out is already
// in the right block: only exchanges within blocks are left.
template <class C>
LSTMREP_VECTOR_INLINE void transpose(const char* in, int64_t in_stride, C* out,
                                     int64_t out_stride) {
  constexpr int kN = kBlock<C>;
  for (int i = 0; i < kLanes<C>; i += kN) {  // kN columns of in become kN rows of out
    Vec<C> x[kN];
    for (int q = 0; q < kN; ++q) {
      x[q] = gathered<Vec<C>>(in + q * in_stride + i * static_cast<int64_t>(sizeof(C)),
                              kN * in_stride);
    }
    C* rows = out + i * out_stride;
    if constexpr (kN == 2) {
      store_raw(rows, interleaved<C, 1, false>(x[0], x[1]));
      store_raw(rows + out_stride, interleaved<C, 1, true>(x[0], x[1]));
    } else {
      const Vec<C> a = interleaved<C, 1, false>(x[0], x[1]),
                   b = interleaved<C, 1, true>(x[0], x[1]);
      const Vec<C> c = interleaved<C, 1, false>(x[2], x[3]),
                   d = interleaved<C, 1, true>(x[2], x[3]);
      store_raw(rows, interleaved<C, 2, false>(a, c));
      store_raw(rows + out_stride, interleaved<C, 2, true>(a, c));
      store_raw(rows + 2 * out_stride, interleaved<C, 2, false>(b, d));
      store_raw(rows + 3 * out_stride, interleaved<C, 2, true>(b, d));
    }
  }
}

// A row of `columns` values, or null for zeros, as the operands of a product that reads it row by
// row; zeros up to the padded depth.
template <class S>
void take_row(const S* from, int64_t columns, Operand<S>* to) {
  constexpr int kL = kLanes<typename Io<S>::C>;
  const int64_t depth = padded_depth<S>(columns);
  if (!from) return clear(to, 0, depth);
  if constexpr (kStoredAsOperand<S>) {
    __builtin_memcpy(to, from, static_cast<size_t>(columns) * sizeof(S));
  } else {
    for (int64_t k = 0; k < columns; k += kL) {
      Io<Operand<S>>::store(to + k, Io<S>::load(from + k, columns - k), columns - k);
    }
  }
  clear(to, columns, depth);
}

// w: [4H, K]
template <class S>
void pack_gate_panel(const S* w, int64_t h, int64_t columns, int64_t u0, Operand<S>* panel) {
  using C = typename Io<S>::C;
  constexpr int kL = kLanes<C>;
  constexpr int kPair = Product<S>::kPair;
  constexpr bool kAsItLies = sizeof(S) * kPair == sizeof(C);  // else widened first
  const int64_t depth = padded_depth<S>(columns);
  const int64_t units = h - u0 < kL ? h - u0 : kL;
  // One gate at a time: its `lanes` rows of w are as many streams as hardware follows.
  for (int g = 0; g < 4; ++g) {
    for (int64_t k = 0; k < depth; k += kL * kPair) {
      const S* first = w + (g * h + u0) * columns + k;
      // Pairs are values of the size of C.
      C* out = reinterpret_cast<C*>(panel + k * 4 * kL + g * kL * kPair);
      const int64_t there = columns - k < kL * kPair ? columns - k : kL * kPair;
      if (kAsItLies && units == kL && there == kL * kPair) {
        transpose<C>(reinterpret_cast<const char*>(first),
                     columns * static_cast<int64_t>(sizeof(S)), out, 4 * kL);
        continue;
      }
      C tile[kL][kL] = {}, turned[kL][kL];
      for (int64_t j = 0; j < units; ++j) {
        if constexpr (kAsItLies) {
          __builtin_memcpy(tile[j], first + j * columns, static_cast<size_t>(there) * sizeof(S));
        } else {
          store_raw(tile[j], Io<S>::load(first + j * columns, there));
        }
      }
      transpose<C>(reinterpret_cast<const char*>(tile), sizeof tile[0], turned[0], kL);
      const int64_t rows = (depth - k) / kPair < kL ? (depth - k) / kPair : kL;
      for (int64_t d = 0; d < rows; ++d) {
        __builtin_memcpy(out + d * 4 * kL, turned[d], sizeof turned[d]);
      }
    }
  }
}

// All gate panels of one W_hh, one after the other.
template <class S>
size_t pack_bytes_of(int64_t h) {
  constexpr int kL = kLanes<typename Io<S>::C>;
  const int64_t panels = (h + kL - 1) / kL;
  return static_cast<size_t>(panels * padded_depth<S>(h) * 4 * kL) * sizeof(Operand<S>);
}

template <class S>
void pack_of(int64_t h, const void* w, void* pack) {
  constexpr int kL = kLanes<typename Io<S>::C>;
  for (int64_t u0 = 0; u0 < h; u0 += kL) {
    pack_gate_panel(static_cast<const S*>(w), h, h, u0,
                    static_cast<Operand<S>*>(pack) + u0 * padded_depth<S>(h) * 4);
  }
}

// row(j): row j of w, `columns` long, or null for zeros; asked for in order.
template <class S, class Row>
void pack_unit_panel(int64_t rows, int64_t columns, int64_t u0, Operand<S>* panel, Row row) {
  using C = typename Io<S>::C;
  constexpr int kL = kLanes<C>;
  constexpr int kPair = Product<S>::kPair;
  for (int64_t j = 0; j < padded_depth<S>(rows); j += kPair) {
    const S* first = j < rows ? row(j) : nullptr;
    const S* second = kPair == 2 && j + 1 < rows ? row(j + 1) : nullptr;
    // A vector of columns, or of pairs two: as many values as their rows have in a vector.
    for (int v = 0; v < 4; v += kPair) {
      const int64_t u = u0 + v * kL;
      const int64_t count = columns > u ? columns - u : 0;
      Operand<S>* out = panel + j * 4 * kL + v * kL * kPair;
      if constexpr (kPair == 1) {
        store_raw(out, first && count ? Io<S>::load(first + u, count) : Vec<C>{});
      } else {
        const VecW low = first && count ? load_first<VecW>(first + u, count) : VecW{};
        const VecW high = second && count ? load_first<VecW>(second + u, count) : VecW{};
        VecW lower, upper;
        for (int l = 0; l < 2 * kL; ++l) {
          lower[l] = static_cast<uint16_t>(l / 2 + l % 2 * 2 * kL);
          upper[l] = static_cast<uint16_t>(lower[l] + kL);
        }
        store_raw(out, shuffled(low, high, lower));
        store_raw(out + kL * kPair, shuffled(low, high, upper));
      }
    }
  }
}

}  // namespace
}  // namespace lstmrep
