// Panels of W_hh for the products of gemm.h: [depth / pair, 4, lanes, pair] operands.
//
//   gate panel (forward)   depth k < H:     panel[k, g, j] = w[g H + u0 + j, k], g a gate
//   unit panel (backward)  depth j < 4H:    panel[j, v, l] = w[j, u0 + v lanes + l]
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

// x[i][j] <-> x[j][i], by exchanging ever wider blocks off the diagonal.
template <class C>
LSTMREP_VECTOR_INLINE void transpose(Vec<C> (&x)[kLanes<C>]) {
  constexpr int kN = kLanes<C>;
  typedef decltype(x[0] < x[0]) I;
  for (int width = 1; width < kN; width *= 2) {
    I upper, lower;
    for (int l = 0; l < kN; ++l) {
      upper[l] = l & width ? kN + l - width : l;
      lower[l] = l & width ? kN + l : l + width;
    }
    for (int i = 0; i < kN; ++i) {
      if (i & width) continue;
      const Vec<C> a = x[i], b = x[i + width];
      x[i] = shuffled(a, b, upper);
      x[i + width] = shuffled(a, b, lower);
    }
  }
}

template <class S>
void pack_gate_panel(const S* w, int64_t h, int64_t u0, Operand<S>* panel) {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  constexpr int kL = kLanes<C>;
  constexpr int kPair = Product<S>::kPair;
  const int64_t depth = padded_depth<S>(h);
  const int64_t units = h - u0 < kL ? h - u0 : kL;
  // One gate at a time: its `lanes` rows of w are as many streams as hardware follows.
  for (int g = 0; g < 4; ++g) {
    for (int64_t k = 0; k < depth; k += kL * kPair) {
      const int64_t columns = (depth - k) / kPair < kL ? (depth - k) / kPair : kL;
      const int64_t there = h - k > 0 ? h - k : 0;
      V tile[kL];
      for (int64_t j = 0; j < kL; ++j) {
        const S* row = w + (g * h + u0 + j) * h + k;
        if (j >= units) {
          tile[j] = V{};
        } else if constexpr (kPair == 1) {
          tile[j] = Io<S>::load(row, there);
        } else {
          tile[j] = load_first<V>(row, there);  // bits of pairs
        }
      }
      transpose<C>(tile);
      for (int64_t d = 0; d < columns; ++d) {
        store_raw(panel + (k + d * kPair) * 4 * kL + g * kL * kPair, tile[d]);
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
    pack_gate_panel(static_cast<const S*>(w), h, u0,
                    static_cast<Operand<S>*>(pack) + u0 * padded_depth<S>(h) * 4);
  }
}

template <class S>
void pack_unit_panel(const S* w, int64_t h, int64_t u0, Operand<S>* panel) {
  using C = typename Io<S>::C;
  constexpr int kL = kLanes<C>;
  constexpr int kPair = Product<S>::kPair;
  for (int64_t j = 0; j < padded_depth<S>(4 * h); j += kPair) {
    for (int v = 0; v < 4; ++v) {
      const int64_t u = u0 + v * kL;
      const int64_t count = j < 4 * h && h > u ? h - u : 0;  // 4H is even
      Operand<S>* out = panel + j * 4 * kL + v * kL * kPair;
      if constexpr (kPair == 1) {
        store_raw(out, count ? Io<S>::load(w + j * h + u, count) : Vec<C>{});
      } else {
        const VecH first = count ? load_first<VecH>(w + j * h + u, count) : VecH{};
        const VecH second = count ? load_first<VecH>(w + (j + 1) * h + u, count) : VecH{};
        store_raw(out, __builtin_convertvector(first, VecU) |
                           (__builtin_convertvector(second, VecU) << 16));
      }
    }
  }
}

}  // namespace
}  // namespace lstmrep
