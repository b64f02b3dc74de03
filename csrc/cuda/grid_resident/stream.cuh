// The operand of the products on its way from L2 into a warp: a ring of asynchronous copies.
//
// The exchanged operand of a team is [parity][row tile][block of K][lane] of 16 bytes, so that what
// a lane multiplies lies together and a warp's copy is 512 consecutive bytes. A warp reads only its
// own blocks, and with tensor cores a lane only its own 16 bytes: the ring needs no barrier.
// A turn is one chunk of one round; each panel reads the operand of the turn again. The copies run
// ahead of the products, over the ends of turns, as far as the turns are known to be ready.
// CTAs begin at different levels, since all of them read the same operand at about the same time.
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

// Until a full ring's oldest copies have arrived: all but the newest slots - 2 groups, or fewer.
LSTMREP_DEVICE void wait_oldest(int slots) {
  wait_copies<4>();
  if (slots >= 6) return;  // what the planner mostly chooses
  wait_copies<2>();
  if (slots >= 4) return;
  wait_copies<0>();
}

struct OperandStream {
  const char* from;  // the lane's 16 bytes of the warp's first block
  int levels;        // of this warp
  int first;         // the level that this CTA begins with

  // The next copy: where it reads, and its place in the order of turns, panels and levels. Copies
  // that are issued and not used, and the place of the oldest. chunk: of both parities.
  const char* at;
  int turn, chunk, panel, level, lead, tail;

  LSTMREP_DEVICE void start(const GridShape& grid) {
    turn = chunk = panel = lead = tail = 0;
    rewind(grid);
  }

  // Fills the ring, with copies up to this turn. One place stays free: it is the one that was read
  // last, whose value may still be on its way into registers.
  LSTMREP_DEVICE void top_up(const GridShape& grid, int tiles_of_rows, int ready) {
    if (levels == 0) return;
    LSTMREP_NO_UNROLL
    for (int room = grid.slots - 1 - lead; room > 0; --room) refill(grid, tiles_of_rows, ready);
  }

  // The same for one place. A group is committed with or without a copy: so each group that is
  // waited for has at least slots - 2 newer ones, and the wait needs no count.
  LSTMREP_DEVICE void refill(const GridShape& grid, int tiles_of_rows, int ready) {
    if (turn <= ready) issue(grid, tiles_of_rows);
    commit_copies();
  }

  // The lane's next place of the ring, when its copies have arrived. advance() gives it back.
  LSTMREP_DEVICE const char* next(const GridShape& grid) const {
    wait_oldest(grid.slots);
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
    const int slot = tail + lead;
    char* to = place(grid, slot < grid.slots ? slot : slot - grid.slots);
    copy_16(to, at);
    const int within = chunk < grid.chunks ? chunk : chunk - grid.chunks;
    if (row_tiles_in(grid, tiles_of_rows, within) > 1) {
      copy_16(to + kGridThreads * 16, at + int64_t{grid.blocks} * kGridOperandBytes);
    }
    ++lead;
    at += kGridWarps * kGridOperandBytes;
    if (++level == levels) {
      level = 0;
      at -= int64_t{levels} * kGridWarps * kGridOperandBytes;
    }
    if (level == first) next_panel(grid);
  }

  LSTMREP_DEVICE void next_panel(const GridShape& grid) {
    if (++panel < grid.panels) return;  // `at` is where the panel before began
    panel = 0;
    ++turn;
    if (++chunk == 2 * grid.chunks) chunk = 0;
    rewind(grid);
  }

  // To the first level of the turn's operand.
  LSTMREP_DEVICE void rewind(const GridShape& grid) {
    level = first;
    const int block = chunk * grid.row_tiles * grid.blocks + first * kGridWarps;
    at = from + int64_t{block} * kGridOperandBytes;
  }
};

}  // namespace lstmrep
