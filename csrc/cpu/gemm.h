// Panel product: out[r, :] = a[r, :] panel, for the rows r of a batch and one packed panel.
//
//   a      [rows, K] C, row stride lda
//   panel  [K, 4, lanes] C: four vectors of columns for each k, contiguous
//   out    [rows, 4, lanes] C, scratch; the caller fuses the cell onto it while it is in cache
//
// Forward packs the four gates of `lanes` hidden units (columns W_hh[g H + u, :], K = H), backward
// packs 4 * lanes hidden units (columns W_hh[:, u], K = 4H); both share the micro-kernel, which
// keeps kMaxRows x 4 accumulators in registers. Sums run over k in order in blocks of kDepthBlock,
// in C, so a row's result depends neither on the other rows nor on the number of threads.
// No transposes of a, no beta.
#pragma once

#include "cpu/simd.h"

namespace lstmrep {
namespace {

// Accumulators are 4 kMaxRows registers of 32 (AVX-512) or 16, beside kMaxRows scalars and a
// column. With 16 registers, 3 rows would just fit, but g++ 12 spills and gains nothing over 2.
constexpr int kMaxRows = LSTMREP_VECTOR_BYTES == 64 ? 6 : 2;
static_assert(5 * kMaxRows + 1 <= (LSTMREP_VECTOR_BYTES == 64 ? 32 : 16), "accumulators spill");

// Values of k in one pass over the rows: the slice of the panel stays in the second-level cache,
// and sums of a block's length lose less to rounding than one sum over all of K.
constexpr int64_t kDepthBlock = 256;

template <class C>
constexpr int kPanelWidth = 4 * kLanes<C>;

template <class C, int kRows>
void micro_kernel(const C* a, int64_t lda, const C* panel, int64_t depth, bool accumulate, C* out) {
  using V = Vec<C>;
  V acc[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 4; ++v) {
      acc[r][v] = V{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const C* column = panel + k * kPanelWidth<C>;
    V x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = splat<V>(a[r * lda + k]);
    for (int v = 0; v < 4; ++v) {
      const V w = load_raw<V>(column + v * kLanes<C>);
      for (int r = 0; r < kRows; ++r) acc[r][v] += x[r] * w;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 4; ++v) {
      C* sum = out + (r * 4 + v) * kLanes<C>;
      store_raw(sum, accumulate ? load_raw<V>(sum) + acc[r][v] : acc[r][v]);
    }
  }
}

template <class C>
void micro_kernel_rows(int rows, const C* a, int64_t lda, const C* panel, int64_t depth,
                       bool accumulate, C* out) {
  if constexpr (kMaxRows > 2) {
    if (rows == 6) return micro_kernel<C, 6>(a, lda, panel, depth, accumulate, out);
    if (rows == 5) return micro_kernel<C, 5>(a, lda, panel, depth, accumulate, out);
    if (rows == 4) return micro_kernel<C, 4>(a, lda, panel, depth, accumulate, out);
    if (rows == 3) return micro_kernel<C, 3>(a, lda, panel, depth, accumulate, out);
  }
  if (rows == 2) return micro_kernel<C, 2>(a, lda, panel, depth, accumulate, out);
  micro_kernel<C, 1>(a, lda, panel, depth, accumulate, out);
}

// needed(r) says whether anyone will read row r of out; blocks with no such row are skipped and
// leave out undefined.
template <class C, class Needed>
void panel_product(const C* a, int64_t lda, int64_t rows, const C* panel, int64_t depth, C* out,
                   Needed needed) {
  for (int64_t k = 0; k < depth; k += kDepthBlock) {
    const int64_t block = depth - k < kDepthBlock ? depth - k : kDepthBlock;
    for (int64_t r = 0; r < rows; r += kMaxRows) {
      const int count = static_cast<int>(rows - r < kMaxRows ? rows - r : kMaxRows);
      bool any = false;
      for (int j = 0; j < count; ++j) any = any || needed(r + j);
      if (!any) continue;
      micro_kernel_rows(count, a + r * lda + k, lda, panel + k * kPanelWidth<C>, block, k > 0,
                        out + r * kPanelWidth<C>);
    }
  }
}

// Forward panel: panel[k, g, j] = w[g H + u0 + j, k], zero where u0 + j >= H.
template <class S>
void pack_gate_panel(const S* w, int64_t h, int64_t u0, typename Io<S>::C* panel) {
  using C = typename Io<S>::C;
  constexpr int kL = kLanes<C>;
  const int64_t units = h - u0 < kL ? h - u0 : kL;
  for (int64_t k = 0; k < h; k += kL) {
    const int64_t depth = h - k < kL ? h - k : kL;
    for (int g = 0; g < 4; ++g) {
      // Through a small tile: reading w with stride H one element at a time would miss the cache.
      C tile[kL][kL];
      for (int64_t j = 0; j < kL; ++j) {
        const S* row = w + (g * h + u0 + j) * h + k;
        store_raw(tile[j], j < units ? Io<S>::load(row, depth) : Vec<C>{});
      }
      for (int64_t d = 0; d < depth; ++d) {
        C* out = panel + ((k + d) * 4 + g) * kL;
        for (int j = 0; j < kL; ++j) out[j] = tile[j][d];
      }
    }
  }
}

// Backward panel: panel[j, :] = w[j, u0 : u0 + 4 lanes], zero where the column is >= H.
template <class S>
void pack_unit_panel(const S* w, int64_t h, int64_t u0, typename Io<S>::C* panel) {
  using C = typename Io<S>::C;
  constexpr int kL = kLanes<C>;
  for (int64_t j = 0; j < 4 * h; ++j) {
    for (int v = 0; v < 4; ++v) {
      const int64_t u = u0 + v * kL;
      const int64_t count = h - u < 0 ? 0 : h - u;
      store_raw(panel + (j * 4 + v) * kL, count > 0 ? Io<S>::load(w + j * h + u, count) : Vec<C>{});
    }
  }
}

}  // namespace
}  // namespace lstmrep
