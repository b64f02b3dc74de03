// The product of a panel of weights with a chunk of the operand, summed over the warps.
//
// Each warp sums its own blocks of K; the sums of the eight warps meet in shared memory as
// fragments, [warp][tile][row tile][lane] of 16 bytes, and every thread adds those of its own
// elements in a fixed order. Slot j of a thread: unit 4m + u of the panel with m = 4j + lane / 4 %
// 4 and u = lane % 4, column 8r + 2t + lane / 16 of the chunk with r = warp / 4 and t = warp % 4.
// Its four sums are the rows of that unit in the four quarters of tile m (weights.cuh). So sixteen
// lanes share a row of the batch and write 16 neighbouring units.
#pragma once

#include "cuda/grid_resident/stream.cuh"
#include "cuda/grid_resident/weights.cuh"
#include "cuda/primitives/shuffle.h"

namespace lstmrep {

// Sums of a warp: of tile m and row tile r the fragment d, as in primitives/mma.h.
template <class O, int kTiles>
struct GridSums {
  static constexpr bool kSharedRing = false;
  float d[kTiles][kGridMostRowTiles][4];

  LSTMREP_DEVICE void clear() {
    LSTMREP_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      LSTMREP_UNROLL
      for (int j = 0; j < 4 * kGridMostRowTiles; ++j) d[m][j / 4][j % 4] = 0.0f;
    }
  }

  // a(m): the weights of tile m, read when they are needed.
  template <class Weights>
  LSTMREP_DEVICE void add(const Weights& a, const char* operand, int row_tiles) {
    const Words first = load_words(operand);
    if (row_tiles == 1) {
      LSTMREP_UNROLL
      for (int m = 0; m < kTiles; ++m) multiply_block<O>(d[m][0], a(m), first);
      return;
    }
    const Words second = load_words(operand + kGridThreads * 16);
    LSTMREP_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      const WeightBlock w = a(m);
      multiply_block<O>(d[m][0], w, first);
      multiply_block<O>(d[m][1], w, second);
    }
  }

  LSTMREP_DEVICE void fragment(int m, int r, float (&out)[4]) const {
    LSTMREP_UNROLL
    for (int j = 0; j < 4; ++j) out[j] = d[m][r][j];
  }
};

// True float32: a lane sums its own quarter of K for rows g and g + 8 and all 8 columns.
template <int kTiles>
struct GridSums<float, kTiles> {
  static constexpr bool kSharedRing = true;  // a lane reads the 16 bytes of other lanes too
  float d[kTiles][2][kGridRowTile];

  LSTMREP_DEVICE void clear() {
    LSTMREP_UNROLL
    for (int m = 0; m < kTiles; ++m) {
      LSTMREP_UNROLL
      for (int j = 0; j < 2 * kGridRowTile; ++j) d[m][j / kGridRowTile][j % kGridRowTile] = 0.0f;
    }
  }

  template <class Weights>
  LSTMREP_DEVICE void add(const Weights& a, const char* operand, int) {
    WeightBlock w[kTiles];
    LSTMREP_UNROLL
    for (int m = 0; m < kTiles; ++m) w[m] = a(m);
    const char* quarter = operand - threadIdx.x % kWarp / 4 * 64;  // of column 0
    LSTMREP_UNROLL
    for (int column = 0; column < kGridRowTile; ++column) {
      const Words b = load_words(quarter + column * 64);
      LSTMREP_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        LSTMREP_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float x = word_to_float(b.w[e]);
          d[m][0][column] += word_to_float(w[m].part[0].w[e]) * x;
          d[m][1][column] += word_to_float(w[m].part[1].w[e]) * x;
        }
      }
    }
  }

  // Each exchange over the quad halves the columns that a lane keeps, to 2t and 2t + 1.
  LSTMREP_DEVICE void fragment(int m, int, float (&out)[4]) const {
    const bool upper = threadIdx.x & 2, odd = threadIdx.x & 1;
    LSTMREP_UNROLL
    for (int row = 0; row < 2; ++row) {
      float half[4];
      LSTMREP_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float mine = upper ? d[m][row][4 + j] : d[m][row][j];
        half[j] = mine + from_lane_xor(upper ? d[m][row][j] : d[m][row][4 + j], 2);
      }
      LSTMREP_UNROLL
      for (int j = 0; j < 2; ++j) {
        const float mine = odd ? half[2 + j] : half[j];
        out[2 * row + j] = mine + from_lane_xor(odd ? half[j] : half[2 + j], 1);
      }
    }
  }
};

// The warp's sums for one panel; the stream stands at the start of the panel's operand.
template <class O, int kTiles, bool kForward>
LSTMREP_DEVICE void panel_product(const GridShape& grid, const GridMemory& memory,
                                  const GridWeights<O, kTiles, kForward>& weights,
                                  OperandStream& stream, int panel, int tiles_of_rows,
                                  int row_tiles, int ready, GridSums<O, kTiles>& sums) {
  using Weights = GridWeights<O, kTiles, kForward>;
  constexpr bool kSharedRing = GridSums<O, kTiles>::kSharedRing;
  auto add = [&](const auto& tile) {
    const char* operand = stream.next(grid);
    // The other lanes' copies have arrived. They are overwritten, at the earliest, after this line
    // of the next level, since one place of the ring stays free.
    if (kSharedRing) __syncwarp();
    sums.add(tile, operand, row_tiles);
    stream.advance(grid);
    stream.refill(grid, tiles_of_rows, ready);
  };
  stream.top_up(grid, tiles_of_rows, ready);
  sums.clear();
  int level = 0;
  if (panel == 0) {
    LSTMREP_UNROLL
    for (int j = 0; j < Weights::kHeld; ++j) {
      if (j >= weights.levels) break;
      add([&](int m) { return weights.held[j][m]; });
    }
    level = Weights::kHeld;
  }
  int at = Weights::memory_level(grid, panel, level);
  for (; level < weights.levels && at < grid.shared_levels; ++level, ++at) {
    add([&](int m) { return Weights::read(Weights::in_shared(grid, at), m); });
  }
  for (; level < weights.levels; ++level, ++at) {
    add([&](int m) { return Weights::read(Weights::beyond_shared(grid, memory, at), m); });
  }
}

// A lane's fragment of a tile in shared memory. Tiles are turned against each other, so that the
// 16-byte loads of four tiles at once fall into all banks.
template <int kTiles>
LSTMREP_DEVICE char* fragment_at(const GridShape& grid, int warp, int m, int r, int lane) {
  const int tile = (warp * kTiles + m) * grid.row_tiles + r;
  return dynamic_shared() + grid.partials + (tile * kWarp + (lane ^ (m % 4))) * 16;
}

template <class O, int kTiles>
LSTMREP_DEVICE void store_sums(const GridShape& grid, int row_tiles,
                               const GridSums<O, kTiles>& sums) {
  const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  LSTMREP_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    LSTMREP_UNROLL
    for (int r = 0; r < kGridMostRowTiles; ++r) {
      if (r >= row_tiles) break;
      float d[4];
      sums.fragment(m, r, d);
      Words words;
      pack(d, words);
      store_words(fragment_at<kTiles>(grid, warp, m, r, lane), words);
    }
  }
}

// Which element of a panel and chunk slot j of this thread is; exists: within the panel.
struct GridPlace {
  bool exists;
  int unit, column;
};

template <int kTiles>
LSTMREP_DEVICE GridPlace grid_place(int j) {
  const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const int m = 4 * j + lane / 4 % 4;
  return {m < kTiles, 4 * m + lane % 4, warp / 4 * 8 + warp % 4 * 2 + lane / 16};
}

// The sums over all warps for slot j, by quarter. row_tiles: of this chunk.
template <int kTiles>
LSTMREP_DEVICE void total_sums(const GridShape& grid, int row_tiles, int j, float (&out)[4]) {
  const int thread = again(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const int m = 4 * j + lane / 4 % 4, r = warp / 4, half = lane / 16;
  const int first = lane % 4 * 4 + warp % 4;  // the lane whose fragment has quarters 0 and 2
  float even[4] = {0.0f, 0.0f, 0.0f, 0.0f}, odd[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (m < kTiles && r < row_tiles) {
    LSTMREP_UNROLL
    for (int w = 0; w < kGridWarps / 2; ++w) {
      const int from = half * (kGridWarps / 2) + w;
      const Words a = load_words(fragment_at<kTiles>(grid, from, m, r, first));
      const Words b = load_words(fragment_at<kTiles>(grid, from, m, r, first + 16));
      LSTMREP_UNROLL
      for (int k = 0; k < 4; ++k) {
        even[k] += word_to_float(a.w[k]);
        odd[k] += word_to_float(b.w[k]);
      }
    }
  }
  // Lanes l and l ^ 16 have halves of the same two columns: each keeps one column and gives away
  // the other.
  LSTMREP_UNROLL
  for (int q = 0; q < 2; ++q) {
    const float even_mine = half ? even[2 * q + 1] : even[2 * q];
    const float odd_mine = half ? odd[2 * q + 1] : odd[2 * q];
    out[2 * q] = even_mine + from_lane_xor(half ? even[2 * q] : even[2 * q + 1], 16);
    out[2 * q + 1] = odd_mine + from_lane_xor(half ? odd[2 * q] : odd[2 * q + 1], 16);
  }
}

}  // namespace lstmrep
