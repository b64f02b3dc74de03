// The operand of the products on its way from L2 into a warp: a ring of asynchronous copies.
//
// The exchanged operand of a team is [parity][row tile][block of K][lane] of 16 bytes, so that what
// a lane multiplies lies together and a warp's copy is 512 consecutive bytes. A warp reads only its
// own blocks, and with tensor cores a lane only its own 16 bytes: the ring needs no barrier.
// A turn is one chunk of one round; each panel reads the operand of the turn again. The copies run
// ahead of the products, over the ends of turns, as far as the turns are known to be ready.
#pragma once

#include "cuda/grid_resident/config.h"
#include "cuda/primitives/async_copy.h"
#include "cuda/primitives/vector.h"

namespace lstmrep {

// Where an element of the operand lies: bytes from the start of the team's.
template <class O>
LSTMREP_DEVICE int64_t operand_offset(const GridShape& grid, int parity, int row, int k) {
  constexpr int kElements = 16 / static_cast<int>(sizeof(O)), kBlock = 4 * kElements;
  const int block = parity * grid.operand_blocks + row / kGridRowTile * grid.blocks + k / kBlock;
  const int lane = row % kGridRowTile * 4 + k % kBlock / kElements;
  return int64_t{block} * kGridOperandBytes + lane * 16 +
         k % kElements * static_cast<int>(sizeof(O));
}

// Row tiles of a chunk that have rows of the team, whose rows make tiles_of_rows.
LSTMREP_DEVICE int row_tiles_in(const GridShape& grid, int tiles_of_rows, int chunk) {
  const int left = tiles_of_rows - chunk * grid.row_tiles;
  return left < grid.row_tiles ? left : grid.row_tiles;
}

LSTMREP_DEVICE void wait_newest(int groups) {
  static_assert(kGridMostSlots == 8, "one case for each number of copies under way");
  switch (groups) {
    case 0:
      return wait_copies<0>();
    case 1:
      return wait_copies<1>();
    case 2:
      return wait_copies<2>();
    case 3:
      return wait_copies<3>();
    case 4:
      return wait_copies<4>();
    case 5:
      return wait_copies<5>();
    default:
      return wait_copies<6>();
  }
}

struct OperandStream {
  const char* from;  // the lane's 16 bytes of the warp's first block
  int levels;        // of this warp

  // Position of the next copy; copies that are issued and not used, and the place of the oldest.
  int round, chunk, panel, level, lead, tail;

  LSTMREP_DEVICE void start() { round = chunk = panel = level = lead = tail = 0; }

  // Issues what the ring has room for, up to this turn. One place stays free: it is the one that
  // was read last, whose value may still be on its way into registers.
  LSTMREP_DEVICE void top_up(const GridShape& grid, int tiles_of_rows, int ready) {
    while (lead < grid.slots - 1 && round * grid.chunks + chunk <= ready && levels > 0) {
      issue(grid, tiles_of_rows);
    }
  }

  // The lane's next place of the ring, when its copies have arrived. advance() gives it back.
  LSTMREP_DEVICE const char* next(const GridShape& grid) const {
    wait_newest(lead - 1);
    return place(grid, tail);
  }

  LSTMREP_DEVICE void advance(const GridShape& grid) {
    --lead;
    tail = tail + 1 == grid.slots ? 0 : tail + 1;
  }

 private:
  LSTMREP_DEVICE static char* place(const GridShape& grid, int slot) {
    return dynamic_shared() + grid.ring +
           (slot * grid.row_tiles * kGridThreads + again(threadIdx.x)) * 16;
  }

  LSTMREP_DEVICE void issue(const GridShape& grid, int tiles_of_rows) {
    const int first = chunk * grid.row_tiles;
    const int block = round % 2 * grid.operand_blocks + first * grid.blocks + level * kGridWarps;
    const char* at = from + int64_t{block} * kGridOperandBytes;
    const int slot = tail + lead;
    char* to = place(grid, slot < grid.slots ? slot : slot - grid.slots);
    LSTMREP_UNROLL
    for (int r = 0; r < kGridMostRowTiles; ++r) {
      if (r >= row_tiles_in(grid, tiles_of_rows, chunk)) break;
      copy_16(to + r * kGridThreads * 16, at + int64_t{r} * grid.blocks * kGridOperandBytes);
    }
    commit_copies();
    ++lead;
    if (++level < levels) return;
    level = 0;
    if (++panel < grid.panels) return;
    panel = 0;
    if (++chunk < grid.chunks) return;
    chunk = 0;
    ++round;
  }
};

}  // namespace lstmrep
