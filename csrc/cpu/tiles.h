// Panel product of bfloat16 in AMX tiles: out[r, :] = a[r, :] panel.
//
// A tile is 16 rows of 64 bytes: 16 x 32 operands of a, 32 x 16 of a panel's gate (16 pairs of k by
// 16 columns), 16 x 16 sums. Blocks of up to two tiles of rows by two gates: four tiles are loaded
// for four products. A slice of a panel, kTileDepth deep, stays in the first-level cache while all
// rows pass. Sums run over k in order, in float. Rows are taken in whole tiles: a and out must have
// room for rows up to the next multiple of 16; what stands there, perhaps another thread's row in
// the making, is computed and never read. A thread configures its tiles before the first product
// and releases them after the last one (TileScope; nothing for other types): a core that holds tile
// data switches threads more slowly.
#pragma once

#include "cpu/operand.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#define LSTMREP_TILES 1
#else
#define LSTMREP_TILES 0
#endif

namespace lstmrep {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileDepth = 512;

// Whether rows of operands are multiplied in tiles.
template <class S>
constexpr bool kInTiles = LSTMREP_TILES && Product<S>::kPair == 2;

template <class S>
struct TileScope {
  TileScope() {}  // not trivial, so that an unused one is no warning
};

#if LSTMREP_TILES

template <>
struct TileScope<BFloat16> {
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int j = 0; j < 8; ++j) {
      config.row_bytes[j] = 64;
      config.rows[j] = kTileRows;
    }
    _tile_loadconfig(&config);
  }
  ~TileScope() { _tile_release(); }
};

// Tiles 0 to 3: sums of row tile r and gate g in 2 r + g. 4 and 5: rows. 6 and 7: gates.
template <int kRowTiles>
void tile_block(const BFloat16* a, int64_t lda, const BFloat16* panel, int64_t depth,
                bool accumulate, Ahead& ahead, float* out) {
  constexpr int64_t kOutRow = 4 * 16;              // floats
  constexpr int64_t kOutBytes = 4 * kOutRow;       // stride of a row of sums
  constexpr int64_t kPanelBytes = 4 * 16 * 2 * 2;  // stride of a pair of k
  float* below = out + kTileRows * kOutRow;
  if (accumulate) {
    _tile_loadd(0, out, kOutBytes);
    _tile_loadd(1, out + 16, kOutBytes);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(2, below, kOutBytes);
      _tile_loadd(3, below + 16, kOutBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kRowTiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t k = 0; k < depth; k += 32) {
    ahead();
    const BFloat16* w = panel + k * 64;
    _tile_loadd(6, w, kPanelBytes);
    _tile_loadd(4, a + k, lda * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w + 32, kPanelBytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kRowTiles == 2) {
      _tile_loadd(5, a + kTileRows * lda + k, lda * 2);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, kOutBytes);
  _tile_stored(1, out + 16, kOutBytes);
  if constexpr (kRowTiles == 2) {
    _tile_stored(2, below, kOutBytes);
    _tile_stored(3, below + 16, kOutBytes);
  }
}

// As panel_product of gemm.h, for a depth that is a multiple of 32.
template <class Needed>
void tile_product(const BFloat16* a, int64_t lda, int64_t rows, const BFloat16* panel,
                  int64_t depth, bool far, float* out, Needed needed) {
  const int64_t groups = (rows + 2 * kTileRows - 1) / (2 * kTileRows);
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    const int64_t block = depth - k < kTileDepth ? depth - k : kTileDepth;
    const char* next = reinterpret_cast<const char*>(panel + (k + block) * 64);
    // Of the 64 lines of 32 k, half while each pair of gates passes.
    Ahead ahead = {far ? next : nullptr, static_cast<int>((32 + groups - 1) / groups)};
    for (int g = 0; g < 4; g += 2) {
      for (int64_t r = 0; r < rows; r += 2 * kTileRows) {
        const int64_t end = rows < r + 2 * kTileRows ? rows : r + 2 * kTileRows;
        bool any = false;
        for (int64_t j = r; j < end; ++j) any = any || needed(j);
        if (!any) continue;
        const BFloat16* first = a + r * lda + k;
        const BFloat16* weights = panel + k * 64 + g * 32;
        float* sums = out + r * 64 + g * 16;
        if (end - r > kTileRows) {
          tile_block<2>(first, lda, weights, block, k > 0, ahead, sums);
        } else {
          tile_block<1>(first, lda, weights, block, k > 0, ahead, sums);
        }
      }
    }
  }
}

#endif

}  // namespace
}  // namespace lstmrep
