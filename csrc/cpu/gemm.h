// Panel product: out[r, :] = a[r, :] panel, for the rows r of a batch and one packed panel.
//
//   a      [rows, K] operands (operand.h), row by row or as the columns of a panel
//   panel  [K / pair, 4, lanes, pair] operands: four vectors of columns for each k (pack.h)
//   out    [rows, 4, lanes] C, rows ldo apart: scratch, to which the caller fuses the cell while it
//          is in cache, or rows of a gradient
//
// Forward packs the four gates of `lanes` hidden units (columns W_hh[g H + u, :], K = H), backward
// packs 4 * lanes hidden units (columns W_hh[:, u], K = 4H); gradients.h multiplies two panels
// whose K are frames. All share the micro-kernel, which keeps kMaxRows x 4 accumulators in
// registers, or, where a lies row by row, the tiles of tiles.h. Sums run over k in order in blocks
// of kDepthBlock, in C, so a row's result depends neither on the other rows nor on the number of
// threads. Only a batch of one row has sums of its own, row_product.
#pragma once

#include "cpu/operand.h"
#include "cpu/tiles.h"

namespace lstmrep {
namespace {

// Accumulators are 4 kMaxRows registers of 32 (AVX-512) or 16, beside kMaxRows scalars and a
// column. With 16 registers, 3 rows would just fit, but g++ 12 spills and gains nothing over 2.
constexpr int kMaxRows = LSTMREP_VECTOR_BYTES == 64 ? 6 : 2;
static_assert(5 * kMaxRows + 1 <= (LSTMREP_VECTOR_BYTES == 64 ? 32 : 16), "accumulators spill");

// Values of k in one pass over the rows: the slice of the panel stays in the second-level cache,
// and sums of a block's length lose less to rounding than one sum over all of K.
constexpr int64_t kDepthBlock = 256;
constexpr int64_t kRowDepthBlock = 128;  // of a batch of one row
constexpr int64_t kAheadDepth = 16;      // between two askings for the next slice

template <class S>
constexpr int kPanelWidth = 4 * kLanes<typename Io<S>::C>;

// How the rows of a product lie: one after the other, or as columns of a panel.
template <class S>
struct RowMajor {
  static constexpr bool kAsTiles = true;
  const Operand<S>* first;
  int64_t stride;
  LSTMREP_VECTOR_INLINE const Operand<S>* at(int64_t r, int64_t k) const {
    return first + r * stride + k;
  }
  LSTMREP_VECTOR_INLINE RowMajor from(int64_t r, int64_t k) const { return {at(r, k), stride}; }
};
template <class S>
struct PanelMajor {
  static constexpr bool kAsTiles = false;
  const Operand<S>* first;
  LSTMREP_VECTOR_INLINE const Operand<S>* at(int64_t r, int64_t k) const {
    return first + k * kPanelWidth<S> + r * Product<S>::kPair;
  }
  LSTMREP_VECTOR_INLINE PanelMajor from(int64_t r, int64_t k) const { return {at(r, k)}; }
};

// depth: a multiple of kPair
template <class S, int kRows, class A>
void micro_kernel(A a, const Operand<S>* panel, int64_t depth, bool accumulate, Ahead& ahead,
                  typename Io<S>::C* out, int64_t ldo) {
  using P = Product<S>;
  using C = typename P::C;
  using V = Vec<C>;
  constexpr int kGroup = kLanes<C> * P::kPair;  // operands of a column
  V acc[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 4; ++v) {
      acc[r][v] = V{};
    }
  }
  for (int64_t k = 0; k < depth; k += P::kPair) {
    if (k % kAheadDepth == 0) ahead();
    const Operand<S>* column = panel + k * kPanelWidth<S>;
    typename P::Column x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = P::splat(a.at(r, k));
    for (int v = 0; v < 4; ++v) {
      const auto w = load_raw<typename P::Column>(column + v * kGroup);
      for (int r = 0; r < kRows; ++r) acc[r][v] = P::add(acc[r][v], x[r], w);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 4; ++v) {
      C* sum = out + r * ldo + v * kLanes<C>;
      store_raw(sum, accumulate ? load_raw<V>(sum) + acc[r][v] : acc[r][v]);
    }
  }
}

template <class S, class A>
void micro_kernel_rows(int rows, A a, const Operand<S>* panel, int64_t depth, bool accumulate,
                       Ahead& ahead, typename Io<S>::C* out, int64_t ldo) {
  if constexpr (kMaxRows > 2) {
    if (rows == 6) return micro_kernel<S, 6>(a, panel, depth, accumulate, ahead, out, ldo);
    if (rows == 5) return micro_kernel<S, 5>(a, panel, depth, accumulate, ahead, out, ldo);
    if (rows == 4) return micro_kernel<S, 4>(a, panel, depth, accumulate, ahead, out, ldo);
    if (rows == 3) return micro_kernel<S, 3>(a, panel, depth, accumulate, ahead, out, ldo);
  }
  if (rows == 2) return micro_kernel<S, 2>(a, panel, depth, accumulate, ahead, out, ldo);
  micro_kernel<S, 1>(a, panel, depth, accumulate, ahead, out, ldo);
}

// One row: k by k in turn into two sums of each column, since four chains of additions would wait
// for each other where the panel is in the first-level cache.
template <class S>
void row_kernel(const Operand<S>* a, const Operand<S>* panel, int64_t depth, bool accumulate,
                Ahead& ahead, typename Io<S>::C* out) {
  using P = Product<S>;
  using V = Vec<typename P::C>;
  constexpr int kL = kLanes<typename P::C>, kTwo = 2 * P::kPair;
  V acc[2][4];
  for (int i = 0; i < 2; ++i) {
    for (int v = 0; v < 4; ++v) acc[i][v] = V{};
  }
  for (int64_t k = 0; k + kTwo <= depth; k += kTwo) {
    if (k % kAheadDepth == 0) ahead();
    for (int i = 0; i < 2; ++i) {
      const Operand<S>* column = panel + (k + i * P::kPair) * kPanelWidth<S>;
      const typename P::Column x = P::splat(a + k + i * P::kPair);
      for (int v = 0; v < 4; ++v) {
        const auto w = load_raw<typename P::Column>(column + v * kL * P::kPair);
        acc[i][v] = P::add(acc[i][v], x, w);
      }
    }
  }
  const int64_t last = depth / kTwo * kTwo;
  for (int v = 0; v < 4; ++v) {
    if (last < depth) {
      const auto w =
          load_raw<typename P::Column>(panel + last * kPanelWidth<S> + v * kL * P::kPair);
      acc[0][v] = P::add(acc[0][v], P::splat(a + last), w);
    }
    const V sum = acc[0][v] + acc[1][v];
    store_raw(out + v * kL, accumulate ? load_raw<V>(out + v * kL) + sum : sum);
  }
}

// The product of a batch of one row, but in tiles, which take it as they take 16. back: blocks of k
// from the last to the first, so that a step begins with what the one before has left in the
// first-level cache.
template <class S>
void row_product(const Operand<S>* a, const Operand<S>* panel, int64_t depth, bool far, bool back,
                 typename Io<S>::C* out) {
  constexpr int kLines = kAheadDepth * kPanelWidth<S> * sizeof(Operand<S>) / 64;
  const int64_t blocks = (depth + kRowDepthBlock - 1) / kRowDepthBlock;
  for (int64_t j = 0; j < blocks; ++j) {
    const int64_t k = (back ? blocks - 1 - j : j) * kRowDepthBlock;
    const int64_t block = depth - k < kRowDepthBlock ? depth - k : kRowDepthBlock;
    const Operand<S>* first = panel + k * kPanelWidth<S>;
    const char* next = reinterpret_cast<const char*>(first + block * kPanelWidth<S>);
    Ahead ahead = {far ? next : nullptr, kLines};
    row_kernel<S>(a + k, first, block, j > 0, ahead, out);
  }
}

// depth: padded_depth of K. far: the panels of a thread do not stay in its cache. accumulate: to
// what out holds. needed(r) says whether anyone will read row r of out; blocks with no such row are
// skipped and leave out undefined. ldo: not for tiles, which write rows side by side.
template <class S, class A, class Needed>
void panel_product(A a, int64_t rows, const Operand<S>* panel, int64_t depth, bool far,
                   bool accumulate, typename Io<S>::C* out, Needed needed,
                   int64_t ldo = kPanelWidth<S>) {
  if (rows == 0) return;
#if LSTMREP_TILES
  if constexpr (kInTiles<S> && A::kAsTiles) {
    return tile_product(a.first, a.stride, rows, panel, depth, far, out, needed);
  }
#endif
  constexpr int64_t kLines = kAheadDepth * kPanelWidth<S> * sizeof(Operand<S>) / 64;
  const int64_t groups = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t k = 0; k < depth; k += kDepthBlock) {
    const int64_t block = depth - k < kDepthBlock ? depth - k : kDepthBlock;
    const char* next = reinterpret_cast<const char*>(panel + (k + block) * kPanelWidth<S>);
    Ahead ahead = {far ? next : nullptr, static_cast<int>((kLines + groups - 1) / groups)};
    for (int64_t j = 0; j < groups; ++j) {
      // Groups of one size: 8 rows as 4 and 4, since each reads the panel, and 2 would wait for it.
      const int64_t r = rows * j / groups;
      const int count = static_cast<int>(rows * (j + 1) / groups - r);
      bool any = false;
      for (int i = 0; i < count; ++i) any = any || needed(r + i);
      if (!any) continue;
      micro_kernel_rows<S>(count, a.from(r, k), panel + k * kPanelWidth<S>, block,
                           accumulate || k > 0, ahead, out + r * ldo, ldo);
    }
  }
}

}  // namespace
}  // namespace lstmrep
