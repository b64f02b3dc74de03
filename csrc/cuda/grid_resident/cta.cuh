// What both passes of a CTA work with: its place in the team, its weights and operand, who its
// threads are, and how it gives up.
#pragma once

#include "cuda/grid_resident/product.cuh"
#include "cuda/primitives/barrier.h"
#include "cuda/recurrence/step.cuh"

namespace lstmrep {

// One element of the cell that a thread computes in a chunk (recurrence/step.cuh).
struct GridElement {
  bool exists;
  bool reversed;
  int recurrence, unit;
  int row;        // within the team
  int length;     // steps of its row
  int64_t batch;  // row of the batch

  LSTMREP_DEVICE int n() const { return recurrence; }
  LSTMREP_DEVICE int64_t state(const RecurrenceShape& s) const {
    return (int64_t{recurrence} * s.b + batch) * s.h + unit;
  }
  LSTMREP_DEVICE int64_t start(const RecurrenceShape& s) const {
    return s.shared_start ? batch * s.h + unit : state(s);
  }
  LSTMREP_DEVICE bool active(int step) const { return step < length; }
  LSTMREP_DEVICE int64_t frame_row(const RecurrenceShape& s, int step) const {
    const int frame = reversed && active(step) ? length - 1 - step : step;
    return (int64_t{recurrence} * s.t + frame) * s.b + batch;
  }
};

// The thread that arrives at barriers: not of the warp that waits, for both take as long as a way
// to L2 and back.
LSTMREP_DEVICE bool arrives() { return threadIdx.x == kWarp; }

template <class O, int kTiles, bool kForward>
struct GridCta {
  using Io = typename OperandOf<O>::Io;
  static constexpr int kUnits = 4 * kTiles;        // of a panel
  static constexpr int kSlots = (kTiles + 3) / 4;  // elements of a thread in a panel and chunk
  static constexpr int kOperands = kForward ? 1 : kGates;

  GridWeights<O, kTiles, kForward> weights;
  OperandStream stream;
  int recurrence;

  // The start of a recurrence: weights into place. The caller's next barrier makes them seen.
  LSTMREP_DEVICE void start(const RecurrenceShape& s, const GridShape& grid,
                            const GridMemory& memory, int n, const void* const* w_hh) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int member = static_cast<int>(blockIdx.x);
    recurrence = n;
    stream.from = operands(grid, memory, kForward ? 0 : member % kGates) +
                  warp * kGridOperandBytes + lane * 16;
    stream.levels = (grid.blocks - warp + kGridWarps - 1) / kGridWarps;
    stream.first = stream.levels ? (kForward ? member : member / kGates) % stream.levels : 0;
    stream.start(grid);

    weights.levels = stream.levels;
    weights.first = stream.first;
    const int group = kForward ? member : member - member % kGates;
    weights.load(grid, memory, w_hh, n, s.h, group * kUnits, grid.members * kUnits, kUnits,
                 member % kGates);
  }

  // Biases (where biases is not null) and peepholes of the CTA's units, as [7][panels * kUnits]
  // floats in shared memory. The caller's next barrier makes them seen.
  LSTMREP_DEVICE void store_vectors(const RecurrenceShape& s, const GridShape& grid,
                                    const void* const* biases, const void* const* peepholes) const {
    const int units = grid.panels * kUnits;
    for (int j = threadIdx.x; j < units; j += kGridThreads) {
      const int unit =
          (j / kUnits * grid.members + static_cast<int>(blockIdx.x)) * kUnits + j % kUnits;
      const PeepholeValues<float> p = load_peephole<Io>(s, peepholes, recurrence, unit);
      GateValues<float> b = {0.0f, 0.0f, 0.0f, 0.0f};
      if (biases) b = load_bias<Io>(s, biases, recurrence, unit);
      const float all[kGridVectors] = {b.i, b.f, b.g, b.o, p.i, p.f, p.o};
      LSTMREP_UNROLL
      for (int k = 0; k < kGridVectors; ++k) vectors(grid)[k * units + j] = all[k];
    }
  }

  // Of the unit of a thread's slot in a panel.
  LSTMREP_DEVICE GateValues<float> bias(const GridShape& grid, int panel, int j) const {
    const int units = grid.panels * kUnits;
    const float* at = vectors(grid) + panel * kUnits + grid_place<kTiles>(j).unit;
    return {at[0], at[units], at[2 * units], at[3 * units]};
  }
  LSTMREP_DEVICE PeepholeValues<float> peephole(const GridShape& grid, const void* const* peepholes,
                                                int panel, int j) const {
    const int units = grid.panels * kUnits;
    const float* at = vectors(grid) + 4 * units + panel * kUnits + grid_place<kTiles>(j).unit;
    return {peepholes[3 * again(recurrence)] != nullptr, at[0], at[units], at[2 * units]};
  }
  LSTMREP_DEVICE static float* vectors(const GridShape& grid) {
    return reinterpret_cast<float*>(dynamic_shared() + grid.vectors);
  }

  LSTMREP_DEVICE static int tiles_of_rows(const RecurrenceShape& s) {
    return (s.rows + kGridRowTile - 1) / kGridRowTile;
  }

  // The element of a slot in a panel and chunk.
  LSTMREP_DEVICE GridElement element(const RecurrenceShape& s, const GridShape& grid,
                                     const int32_t* lengths, int panel, int chunk, int j) const {
    const GridPlace place = grid_place<kTiles>(j);
    const int columns = grid.row_tiles * kGridRowTile;
    GridElement e;
    e.recurrence = again(recurrence);
    e.unit = (again(panel) * grid.members + static_cast<int>(blockIdx.x)) * kUnits + place.unit;
    e.row = again(chunk) * columns + place.column;
    e.batch = int64_t{blockIdx.y} * s.rows + e.row;
    e.exists =
        place.exists && place.column < columns && e.row < s.rows && e.batch < s.b && e.unit < s.h;
    e.length = s.t;
    if (e.exists && lengths) {
      const int given = lengths[int64_t{e.recurrence} * s.b + e.batch];
      e.length = given < 0 ? 0 : given > s.t ? s.t : given;
    }
    e.reversed = (s.reverse >> e.recurrence) & 1u;
    return e;
  }

  // Calls f(element, slot, panel) for this thread's elements of a chunk.
  template <class F>
  LSTMREP_DEVICE void for_elements(const RecurrenceShape& s, const GridShape& grid,
                                   const int32_t* lengths, int chunk, const F& f) const {
    for (int panel = 0; panel < grid.panels; ++panel) {
      LSTMREP_UNROLL
      for (int j = 0; j < kSlots; ++j) {
        const GridElement e = element(s, grid, lengths, panel, chunk, j);
        if (e.exists) f(e, j, panel);
      }
    }
  }

  LSTMREP_DEVICE int64_t team(const GridShape& grid) const {
    return int64_t{again(recurrence)} * grid.replicas + blockIdx.y;
  }

  // An operand of the team.
  LSTMREP_DEVICE char* operands(const GridShape& grid, const GridMemory& memory, int which) const {
    const int64_t blocks = (team(grid) * kOperands + which) * 2 * grid.operand_blocks;
    return static_cast<char*>(memory.exchange) + blocks * kGridOperandBytes;
  }

  // Where an operand has an element for the product of a round.
  LSTMREP_DEVICE O* operand_at(const GridShape& grid, const GridMemory& memory,
                               const GridElement& e, int which, int round) const {
    return reinterpret_cast<O*>(operands(grid, memory, which) +
                                operand_offset<O>(grid, round % 2, e.row, e.unit));
  }

  // Counter number `place` of the team as a barrier of so many CTAs.
  LSTMREP_DEVICE CounterBarrier barrier(const GridShape& grid, const GridMemory& memory, int place,
                                        int ctas) const {
    uint32_t* words = memory.counters + team(grid) * grid.counters + place * kGridCounterWords;
    return {words, static_cast<uint32_t>(ctas), 0, memory.budget_ns};
  }

  // Of all CTAs of the team for one chunk: the operand of round r is complete when all have arrived
  // r + 1 times.
  LSTMREP_DEVICE CounterBarrier team_barrier(const GridShape& grid, const GridMemory& memory,
                                             int chunk) const {
    return barrier(grid, memory, chunk, grid.members);
  }

  // For all threads, before a __syncthreads_or: waits for turns first to last, each thread for its
  // own, so that a look at many takes no longer than at one; whether the thread gave up.
  LSTMREP_DEVICE bool wait_turns(const GridShape& grid, const GridMemory& memory, int first,
                                 int last) const {
    for (int turn = first + static_cast<int>(again(threadIdx.x)); turn <= last;
         turn += kGridThreads) {
      if (!team_barrier(grid, memory, turn % grid.chunks).wait(turn / grid.chunks)) return true;
    }
    return false;
  }
};

// Outputs of a CTA that gave up: nothing that looks like a result.
template <class Io>
LSTMREP_DEVICE void fill_nan(Io* to, int64_t first, int64_t count, int64_t stride) {
  if (!to) return;
  const Io nan = from_float<Io>(word_to_float(0x7FC00000u));
  for (int64_t j = 0; j < count; ++j) to[first + j * stride] = nan;
}

LSTMREP_DEVICE void tell_host(const GridMemory& memory) {
  if (memory.gave_up && threadIdx.x == 0) store_system(memory.gave_up, 1);
}

// The body of both kernels: the recurrences of this CTA one after the other. Pass has run(args,
// cta), false when the CTA gave up, and give_up(args, cta).
template <class Pass, class Args>
LSTMREP_DEVICE void run_recurrences(const Args& a) {
  typename Pass::Cta cta;
  bool failed = false;
  for (int n = static_cast<int>(blockIdx.z); n < a.call.shape.n; n += a.grid.concurrent) {
    if (!failed) {
      __syncthreads();  // what the recurrence before has in shared memory is no longer read
      cta.start(a.call.shape, a.grid, a.memory, n, a.call.w_hh);
      failed = !Pass::run(a, cta);
      wait_copies<0>();
    }
    cta.recurrence = n;
    if (failed) Pass::give_up(a, cta);
  }
}

}  // namespace lstmrep
