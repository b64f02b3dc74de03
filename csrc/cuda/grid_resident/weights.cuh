// A CTA's rows of W_hh, in fragments of mma: levels in registers, in shared memory, and streamed.
//
// A panel is kTiles tiles of 16 rows. Row r of tile m is unit 4m + r % 4 of quarter r / 4: forward
// the four quarters are the gates of the CTA's own 4 kTiles units; backward, where the CTA has one
// gate, they are the units of the four CTAs of its group. A warp has the blocks of K numbered
// warp, warp + 8, ...: its levels. The first kHeld levels of panel 0 are in registers; the others,
// in the order of panels, lie in shared memory as far as it goes and then in global memory, where
// each lane reads back in every step what it wrote itself in the same layout, [level][tile][part]
// [lane] of 16 bytes.
#pragma once

#include "cuda/grid_resident/config.h"
#include "cuda/primitives/device.h"
#include "cuda/recurrence/operand.cuh"

namespace lstmrep {

template <class O, int kTiles, bool kForward>
struct GridWeights {
  using Io = typename OperandOf<O>::Io;
  static constexpr int kHeld = grid_held(OperandOf<O>::kTensor, kTiles);
  static constexpr int kElements = 16 / static_cast<int>(sizeof(O));
  static constexpr int kHalf = 16 * kWarp;  // bytes: 16 of each lane
  static constexpr int kLevel = kTiles * kGridTileBytes;

  WeightBlock held[kHeld][kTiles];
  int levels;  // of this warp
  int first;   // number of the level that comes first; the others follow, cyclically

  // unit: the CTA's first in panel 0; next: from one panel to the next.
  LSTMREP_DEVICE void load(const GridShape& grid, const GridMemory& memory, const void* const* w_hh,
                           int n, int h, int unit, int next, int quarter, int gate) {
    const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
    const bool whole = kForward ? whole_rows<O>(w_hh[n], h) : whole_columns<O>(w_hh[n], h);
    const int k = (warp * 4 + lane % 4) * kElements;  // of level 0
    constexpr int kNextLevel = kGridWarps * 4 * kElements;
    for (int panel = 0; panel < grid.panels; ++panel) {
      for (int j = panel ? 0 : kHeld; j < levels; ++j) {
        LSTMREP_NO_UNROLL
        for (int m = 0; m < kTiles; ++m) {
          const WeightBlock made = block(w_hh, n, h, unit + panel * next + 4 * m, quarter, gate,
                                         k + level_at(j) * kNextLevel, whole);
          const int at = memory_level(grid, panel, j);
          char* to =
              at < grid.shared_levels ? in_shared(grid, at) : beyond_shared(grid, memory, at);
          to += m * kGridTileBytes;
          store_words(to, made.part[0]);
          store_words(to + kHalf, made.part[1]);
        }
      }
    }
    // After the others, for which no register is left beside these.
    LSTMREP_UNROLL
    for (int j = 0; j < kHeld; ++j) {
      LSTMREP_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        // A warp of fewer levels has nothing here: beyond the last K there are zeros.
        const int level = j < levels ? level_at(j) : j;
        held[j][m] = block(w_hh, n, h, unit + 4 * m, quarter, gate, k + level * kNextLevel, whole);
        LSTMREP_UNROLL
        for (int e = 0; e < 8; ++e) {
          uint32_t& word = held[j][m].part[e / 4].w[e % 4];
          word = settled(word);
        }
      }
    }
  }

  // Number of a level beyond the registers. A warp with fewer levels than others leaves gaps.
  LSTMREP_DEVICE static int memory_level(const GridShape& grid, int panel, int level) {
    const int of_first = grid.levels > kHeld ? grid.levels - kHeld : 0;
    return panel ? of_first + (panel - 1) * grid.levels + level : level - kHeld;
  }
  // The lane's part of a level in shared memory, and in global memory beyond it.
  LSTMREP_DEVICE static char* in_shared(const GridShape& grid, int level) {
    const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
    return dynamic_shared() + (warp * grid.shared_levels + level) * kLevel + lane * 16;
  }
  LSTMREP_DEVICE static char* beyond_shared(const GridShape& grid, const GridMemory& memory,
                                            int level) {
    const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
    const int cta =
        static_cast<int>((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x);
    const int64_t place =
        (int64_t{cta} * kGridWarps + warp) * grid.streamed + level - grid.shared_levels;
    return static_cast<char*>(memory.streamed) + place * kLevel + lane * 16;
  }

  LSTMREP_DEVICE static WeightBlock read(const char* level, int m) {
    const char* tile = level + m * kGridTileBytes;
    return {{load_words(tile), load_words(tile + kHalf)}};
  }

 private:
  LSTMREP_DEVICE int level_at(int j) const {
    return first + j < levels ? first + j : first + j - levels;
  }

  LSTMREP_DEVICE static WeightBlock block(const void* const* w_hh, int n, int h, int unit,
                                          int quarter, int gate, int k, bool whole) {
    const int lane = again(threadIdx.x) % kWarp, g = lane / 4;
    h = again(h);
    k = again(k);
    unit = again(unit);
    const Io* w = static_cast<const Io*>(w_hh[again(n)]);
    const int64_t matrix = int64_t{h} * h;
    if (kForward) {
      const Io* low = w + (g / 4) * matrix;
      return weight_block<O>(load_weights<O, true>(low, h, unit + g % 4, k, whole),
                             load_weights<O, true>(low + 2 * matrix, h, unit + g % 4, k, whole));
    }
    const Io* from = w + gate * matrix;
    const int low = unit + g / 4 * quarter;
    if (whole) {
      return weight_block<O>(load_columns<O>(from, h, low, k, lane),
                             load_columns<O>(from, h, low + 2 * quarter, k, lane));
    }
    return weight_block<O>(load_weights<O, false>(from, h, low + g % 4, k, false),
                           load_weights<O, false>(from, h, low + g % 4 + 2 * quarter, k, false));
  }
};

}  // namespace lstmrep
