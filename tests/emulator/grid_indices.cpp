// Indices of the grid-resident kernels at sizes that the emulator cannot run: grid_indices H ROWS
// ROW_TILES. Every element of the operand has a place of its own within what the host allocates,
// whole lanes apart from others', and the threads of a CTA own every element of a panel once.
#include <stdio.h>
#include <stdlib.h>

#include <set>
#include <vector>

#include "cuda/grid_resident/product.cuh"

namespace {

using namespace lstmrep;

template <class O>
bool operand_is_sound(int h, int rows, int row_tiles) {
  GridShape grid = {};
  grid.members = (h + 15) / 16;
  grid.replicas = grid.concurrent = grid.panels = 1;
  grid.tiles = 4;
  grid.row_tiles = row_tiles;
  grid.slots = 4;
  grid = grid_layout(grid, h, rows, sizeof(O), OperandOf<O>::kTensor, false);
  const int64_t bytes = static_cast<int64_t>(grid_exchange_bytes(grid, 1, false));
  std::vector<char> taken(bytes / sizeof(O));
  for (int parity = 0; parity < 2; ++parity) {
    for (int row = 0; row < rows; ++row) {
      for (int k = 0; k < h; ++k) {
        const int64_t at = operand_offset<O>(grid, parity, row, k);
        if (at < 0 || at + static_cast<int64_t>(sizeof(O)) > bytes || at % sizeof(O)) return false;
        if (taken[at / sizeof(O)]++) return false;
      }
    }
  }
  return true;
}

template <int kTiles>
bool places_are_sound() {
  std::set<std::pair<int, int>> seen;
  for (unsigned thread = 0; thread < kGridThreads; ++thread) {
    threadIdx = dim3(thread, 0, 0);
    for (int j = 0; j < (kTiles + 3) / 4; ++j) {
      const GridPlace place = grid_place<kTiles>(j);
      if (!place.exists) continue;
      if (place.unit < 0 || place.unit >= 4 * kTiles) return false;
      if (place.column < 0 || place.column >= kGridRowTile * kGridMostRowTiles) return false;
      if (!seen.insert({place.unit, place.column}).second) return false;
    }
  }
  return seen.size() == size_t{4} * kTiles * kGridRowTile * kGridMostRowTiles;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  const int h = atoi(arguments[1]), rows = atoi(arguments[2]), row_tiles = atoi(arguments[3]);
  const bool sound = operand_is_sound<BFloat16>(h, rows, row_tiles) &&
                     operand_is_sound<Tf32>(h, rows, row_tiles) &&
                     operand_is_sound<float>(h, rows, 1) && places_are_sound<4>() &&
                     places_are_sound<5>();
  puts(sound ? "sound" : "not sound");
  return sound ? 0 : 1;
}
