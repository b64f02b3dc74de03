// Sizes, launch rule and arguments of the grid-resident recurrence; arrays: recurrence/arguments.h.
//
// A team of CTAs owns some rows of one recurrence for the whole sequence and holds W_hh in its
// registers and shared memory, each CTA all of K for `panels` panels of 4 kTiles hidden units. What
// does not fit is streamed from L2 in every step. O is the operand of the products: S itself, or
// Tf32 for float where TF32 is allowed. docs/kernels/grid_resident.md has the schedule.
//
// launch grid_forward_kernel, grid_backward_kernel:
//   grid = grid.members, grid.replicas, grid.concurrent
//   block = kGridThreads, 1, 1
//   shared = grid.shared_bytes
#pragma once

#include "cuda/recurrence/arguments.h"

namespace lstmrep {

constexpr int kGridWarps = 8;  // K is split over them
constexpr int kGridThreads = 32 * kGridWarps;
constexpr int kGridRowTile = 8;       // rows of the batch in an mma tile
constexpr int kGridMostRowTiles = 2;  // of a chunk
constexpr int kGridLeastSlots = 2, kGridMostSlots = 10;
constexpr int kGridCounterWords = 32;       // a cache line each
constexpr int kGridTileBytes = 1024;        // of weights: 16 rows, a block of K
constexpr int kGridOperandBytes = 16 * 32;  // of an operand: 8 rows, a block of K
constexpr int kGridVectors = 7;             // of a unit: four biases, three peepholes

// Levels of weights that stay in registers; a level is a block of K for each warp.
LSTMREP_INLINE constexpr int grid_held(bool tensor, int tiles) {
  if (!tensor) return 2;
  return tiles == 4 ? 4 : 3;
}

// How the grid is laid out: the planner's choice, and what grid_layout derives from it. Kernels
// read all of it from constant memory, which costs no register.
struct GridShape {
  int32_t members;         // CTAs of a team; backward a multiple of 4
  int32_t replicas;        // teams of a recurrence, which share its batch
  int32_t concurrent;      // recurrences at a time; the others follow in the same launch
  int32_t tiles;           // kTiles: 16-row tiles of weights in a panel
  int32_t panels;          // of a CTA
  int32_t row_tiles;       // 8-row tiles of the batch in a chunk; 1 without tensor cores
  int32_t slots;           // levels of the operand that a warp's ring holds
  int32_t most_shared;     // levels of weights that shared memory may hold
  int32_t blocks;          // of K: ceil_div(H, 64 / sizeof(O))
  int32_t levels;          // blocks of a warp: ceil_div(blocks, 8)
  int32_t chunks;          // of a team's rows: ceil_div(rows, 8 * row_tiles)
  int32_t shared_levels;   // levels of weights in shared memory
  int32_t streamed;        // levels of weights beyond it
  int32_t ring;            // bytes of shared memory before the ring: the weights,
  int32_t partials;        // before the warps' sums,
  int32_t totals;          // before the totals (backward),
  int32_t vectors;         // before the biases and peepholes of the CTA's units,
  int32_t shared_bytes;    // and in all
  int32_t operand_blocks;  // (8 rows, block of K) of an operand, one parity
  int32_t counters;        // words of a team
  int32_t parts;           // floats of a CTA, backward
};

// Fills in what follows from the choice. width: bytes of O. rows: of a team.
LSTMREP_INLINE constexpr GridShape grid_layout(GridShape g, int h, int rows, int width, bool tensor,
                                               bool backward) {
  const int block = kBlockBytes / width, columns = kGridRowTile * g.row_tiles;
  g.blocks = (h + block - 1) / block;
  g.levels = (g.blocks + kGridWarps - 1) / kGridWarps;
  g.chunks = (rows + columns - 1) / columns;
  const int held = grid_held(tensor, g.tiles);
  const int beyond = (g.levels > held ? g.levels - held : 0) + (g.panels - 1) * g.levels;
  g.shared_levels = beyond < g.most_shared ? beyond : g.most_shared;
  g.streamed = beyond - g.shared_levels;
  g.ring = g.shared_levels * kGridWarps * g.tiles * kGridTileBytes;
  g.partials = g.ring + g.slots * g.row_tiles * kGridThreads * 16;
  g.totals = g.partials + kGridWarps * g.tiles * g.row_tiles * kGridOperandBytes;
  const int units = g.panels * g.tiles * 4;
  g.vectors = g.totals + (backward ? units * columns * kRecurrenceSums * 4 : 0);
  g.shared_bytes = g.vectors + units * kGridVectors * 4;
  g.operand_blocks = g.chunks * g.row_tiles * g.blocks;
  g.counters = g.chunks * kGridCounterWords * (backward ? 1 + g.members / kGates : 1);
  g.parts = backward ? g.chunks * g.panels * kGates * g.tiles * 4 * columns : 0;
  return g;
}

// Bytes of the memory that a launch needs beside its arrays.
LSTMREP_INLINE constexpr size_t grid_exchange_bytes(const GridShape& g, int n, bool backward) {
  const size_t operand = size_t(2) * g.operand_blocks * kGridOperandBytes;
  return size_t(n) * g.replicas * (backward ? kGates : 1) * operand;
}
LSTMREP_INLINE constexpr size_t grid_streamed_bytes(const GridShape& g) {
  const size_t level = size_t(kGridWarps) * g.tiles * kGridTileBytes;
  return size_t(g.members) * g.replicas * g.concurrent * g.streamed * level;
}

// The memory by which CTAs talk during a launch. Exchanged data are read past L1, never through the
// read-only cache.
struct GridMemory {
  void* exchange;      // [N, replicas, 1 or 4, 2, operand_blocks, 32] of 16 bytes, zeros at first:
                       // forward h, backward the four gate gradients; two parities each
  uint32_t* counters;  // [N, replicas, counters], zeros at first
  void* streamed;      // [CTAs, 8, streamed, tiles, 1024] bytes, may be null where streamed is 0
  float* parts;        // [N, replicas, members, parts], backward only
  uint32_t* gave_up;   // set to 1 when a CTA gave up, may be null; may be host memory
  uint64_t budget_ns;  // longest wait for the other CTAs; 0: no bound
};

struct GridForwardArgs {
  RecurrenceForwardArgs call;
  GridShape grid;
  GridMemory memory;
};

// call.arrivals: [members * (replicas + N)], zeros at first. call.d_c0 only where starts are
// shared; dc is then the second half of call.start_parts.
struct GridBackwardArgs {
  RecurrenceBackwardArgs call;
  GridShape grid;
  GridMemory memory;
  float* dc;  // [N, B, H], out: the gradient of c0, or of each recurrence's part of it
};

}  // namespace lstmrep
