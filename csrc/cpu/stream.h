// Products with W_hh read where it lies, for a few rows: no pack, each of its bytes once a step.
//
//   stream_gates  out[r, g, j] = a[r, :] . w[g H + u0 + j, :]   forward, one panel of `lanes` units
//   stream_units  out[r, u] = d[r, :] w[:, u]                   backward, a run of units
// In forward w is W_hh, or W_ih for the input share.
//
// Where rows are few and W_hh is large, making a pack costs more than all steps gain from it
// (planner: cpu_packs). Forward walks kAtOnce rows of w side by side, backward kAtOnce rows times a
// tile of units whose sums stay in the first-level cache: long contiguous reads, which the
// prefetchers follow. Sums of a row depend neither on the other rows nor on the threads. w is
// widened to C on the way.
#pragma once

#include "cpu/gemm.h"
#include "cpu/kernels.h"

namespace lstmrep {
namespace {

constexpr int64_t kStreamTile = 1024;  // units of a tile: one page of floats from each row of w
constexpr int64_t kStreamBlock = 8;    // rows of w in forward that stay in the second-level cache
constexpr int kStreamPass = LSTMREP_VECTOR_BYTES == 64 ? 5 : 4;  // rows of a in a pass over them

// Rows of w side by side: accumulators (forward) or factors (backward) of all rows fit the
// registers.
template <int kRows>
constexpr int kAtOnce = LSTMREP_VECTOR_BYTES == 64 ? (kRows <= 2 ? 8 : 4)
                                                   : (kRows == 1   ? 8
                                                      : kRows == 2 ? 4
                                                                   : 2);

// Adds the lanes of a vector in memory, in halves; overwrites it.
template <class C>
C sum_of_lanes(C* lanes) {
  for (int width = kLanes<C> / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

// Products of `count` rows of w, up to kStreamBlock, with kRows rows of a; out of one gate.
template <class S, int kRows>
void stream_block(const S* w, int64_t count, int64_t columns, const Operand<S>* a, int64_t lda,
                  typename Io<S>::C* out) {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  constexpr int kL = kLanes<C>;
  constexpr int kN = kAtOnce<kRows>;
  for (int64_t j = 0; j < count; j += kN) {
    const S* row[kN];
    V acc[kN][kRows];
    for (int i = 0; i < kN; ++i) {
      // Beyond the last row the last one again; its sum is dropped below.
      row[i] = w + (j + i < count ? j + i : count - 1) * columns;
      for (int r = 0; r < kRows; ++r) acc[i][r] = V{};
    }
    const auto add = [&](int64_t k, int64_t there) {
      V x[kRows];
      for (int r = 0; r < kRows; ++r) x[r] = Io<Operand<S>>::load(a + r * lda + k, there);
      for (int i = 0; i < kN; ++i) {
        const V weight = Io<S>::load(row[i] + k, there);
        for (int r = 0; r < kRows; ++r) acc[i][r] += x[r] * weight;
      }
    };
    // A loop of whole vectors, so that no load asks how many values are there.
    int64_t k = 0;
    for (; k + kL <= columns; k += kL) add(k, kL);
    if (k < columns) add(k, columns - k);
    // Through memory at once: an index that is no constant would keep acc there all along.
    C sums[kN][kRows][kL];
    for (int i = 0; i < kN; ++i) {
      for (int r = 0; r < kRows; ++r) store_raw(sums[i][r], acc[i][r]);
    }
    for (int i = 0; i < kN && j + i < count; ++i) {
      for (int r = 0; r < kRows; ++r) out[r * 4 * kL + j + i] = sum_of_lanes(sums[i][r]);
    }
  }
}

// w [4H, columns], a [rows, columns] with row stride lda, out [rows, 4, lanes]; zero where u0 + j
// >= H. All rows of a pass over a block of w before the next one: it comes from memory once.
template <class S>
void stream_gates(const S* w, int64_t h, int64_t columns, int64_t u0, int64_t rows,
                  const Operand<S>* a, int64_t lda, typename Io<S>::C* out) {
  constexpr int kL = kLanes<typename Io<S>::C>;
  const int64_t units = h - u0 < kL ? h - u0 : kL;
  const int64_t passes = (rows + kStreamPass - 1) / kStreamPass;
  if (units < kL) {
    for (int64_t e = 0; e < rows * 4 * kL; ++e) out[e] = 0;
  }
  for (int g = 0; g < 4; ++g) {
    for (int64_t j = 0; j < units; j += kStreamBlock) {
      const S* first = w + (g * h + u0 + j) * columns;
      const int64_t count = units - j < kStreamBlock ? units - j : kStreamBlock;
      for (int64_t pass = 0; pass < passes; ++pass) {
        const int64_t r = rows * pass / passes;
        const Operand<S>* from = a + r * lda;
        auto* to = out + (r * 4 + g) * kL + j;
        switch (rows * (pass + 1) / passes - r) {
          case 1:
            stream_block<S, 1>(first, count, columns, from, lda, to);
            break;
          case 2:
            stream_block<S, 2>(first, count, columns, from, lda, to);
            break;
          case 3:
            stream_block<S, 3>(first, count, columns, from, lda, to);
            break;
          case 4:
            stream_block<S, 4>(first, count, columns, from, lda, to);
            break;
          default:
            stream_block<S, kStreamPass>(first, count, columns, from, lda, to);
            break;
        }
      }
    }
  }
}

// sums[r, u] += d[r, j] w[j, u] for kDepth rows j and the units of a tile.
template <class S, int kRows, int kDepth>
void stream_rows(const S* w, int64_t h, int64_t units, const Operand<S>* d, int64_t ldd,
                 typename Io<S>::C* sums) {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  constexpr int kL = kLanes<C>;
  V factor[kRows][kDepth];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kDepth; ++i) factor[r][i] = splat<V>(to_compute(d[r * ldd + i]));
  }
  for (int64_t u = 0; u < units; u += kL) {
    V acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = load_raw<V>(sums + r * kStreamTile + u);
    for (int i = 0; i < kDepth; ++i) {
      const V weight = Io<S>::load(w + i * h + u, units - u);
      for (int r = 0; r < kRows; ++r) acc[r] += factor[r][i] * weight;
    }
    for (int r = 0; r < kRows; ++r) store_raw(sums + r * kStreamTile + u, acc[r]);
  }
}

template <class S, int kRows>
void stream_units_of(const S* w, int64_t h, int64_t u0, int64_t units, const Operand<S>* d,
                     int64_t ldd, typename Io<S>::C* out, int64_t ldo) {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  constexpr int kL = kLanes<C>;
  constexpr int kN = kAtOnce<kRows>;
  static_assert(kStreamTile % kL == 0, "a tile is whole vectors");
  // In blocks of depth, as in gemm.h: sums of a block's length lose less to rounding.
  C sums[kRows * kStreamTile];
  for (int64_t j0 = 0; j0 < 4 * h; j0 += kDepthBlock) {
    const int64_t end = j0 + kDepthBlock < 4 * h ? j0 + kDepthBlock : 4 * h;
    for (int64_t e = 0; e < kRows * kStreamTile; ++e) sums[e] = C{};
    int64_t j = j0;
    for (; j + kN <= end; j += kN) {
      stream_rows<S, kRows, kN>(w + j * h + u0, h, units, d + j, ldd, sums);
    }
    for (; j < end; ++j) stream_rows<S, kRows, 1>(w + j * h + u0, h, units, d + j, ldd, sums);
    for (int r = 0; r < kRows; ++r) {
      for (int64_t u = 0; u < units; u += kL) {
        C* total = out + r * ldo + u;
        const V block = load_raw<V>(sums + r * kStreamTile + u);
        store_raw(total, j0 ? load_raw<V>(total) + block : block);
      }
    }
  }
}

// d [rows, 4H] C with row stride ldd, out [rows, ldo] with room for whole vectors, units from u0
// on.
template <class S>
void stream_units(const S* w, int64_t h, int64_t u0, int64_t units, int64_t rows,
                  const Operand<S>* d, int64_t ldd, typename Io<S>::C* out, int64_t ldo) {
  for (int64_t u = 0; u < units; u += kStreamTile) {
    const int64_t count = units - u < kStreamTile ? units - u : kStreamTile;
    switch (rows) {
      case 0:
        break;
      case 1:
        stream_units_of<S, 1>(w, h, u0 + u, count, d, ldd, out + u, ldo);
        break;
      case 2:
        stream_units_of<S, 2>(w, h, u0 + u, count, d, ldd, out + u, ldo);
        break;
      case 3:
        stream_units_of<S, 3>(w, h, u0 + u, count, d, ldd, out + u, ldo);
        break;
      default:
        stream_units_of<S, 4>(w, h, u0 + u, count, d, ldd, out + u, ldo);
        break;
    }
  }
}

}  // namespace
}  // namespace lstmrep
