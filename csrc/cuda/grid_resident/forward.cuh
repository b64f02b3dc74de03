// The recurrence of a team over the whole sequence, forward.
//
// A turn is one chunk of the batch in one step: product, sums over the warps, cell, h to the other
// CTAs. Chunks do not depend on each other, so each has its own barrier: a CTA arrives at it when a
// later turn's __syncthreads has covered its stores, and looks at it a turn or two before it needs
// the operand. With three chunks or more nobody waits but for a CTA that is late. c lives in c_n.
#pragma once

#include "cuda/grid_resident/cta.cuh"
#include "cuda/primitives/prefetch.h"

namespace lstmrep {

template <class O, int kTiles>
struct GridForward {
  using Io = typename OperandOf<O>::Io;
  using Cta = GridCta<O, kTiles, true>;

  // h as the next round's product reads it.
  LSTMREP_DEVICE static void send(const GridForwardArgs& a, const Cta& cta, const GridElement& e,
                                  int round, Io h) {
    *cta.operand_at(a.grid, a.memory, e, 0, round) = OperandOf<O>::round(to_float(h));
  }

  // False when the CTA gave up.
  LSTMREP_DEVICE static bool run(const GridForwardArgs& a, Cta& cta) {
    const RecurrenceForwardArgs& call = a.call;
    const RecurrenceShape& s = call.shape;
    const int chunks = a.grid.chunks, tiles_of_rows = Cta::tiles_of_rows(s);
    for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
      cta.for_elements(s, a.grid, nullptr, chunk, [&](const GridElement& e, int, int) {
        const Io h = call.h0 ? static_cast<const Io*>(call.h0)[e.start(s)] : from_float<Io>(0.0f);
        static_cast<Io*>(call.h_n)[e.state(s)] = h;
        call.c_n[e.state(s)] = call.c0 ? call.c0[e.start(s)] : 0.0f;
        send(a, cta, e, 0, h);
      });
    }
    if (s.t == 0) return true;
    cta.store_vectors(s, a.grid, call.bias, call.peephole);
    __syncthreads();
    if (arrives()) {
      for (int chunk = 0; chunk < chunks; ++chunk) arrive(a, cta, chunk);
    }
    bool failed = cta.wait_turns(a.grid, a.memory, 0, chunks - 1);
    if (__syncthreads_or(failed)) return false;

    for (int step = 0; step < s.t; ++step) {
      if (chunks == 1 && step > 0) {  // nothing to do while h is on its way
        __syncthreads();
        if (arrives()) arrive(a, cta, 0);
        failed = cta.wait_turns(a.grid, a.memory, step, step);
        if (__syncthreads_or(failed)) return false;
      }
      for (int chunk = 0; chunk < chunks; ++chunk) {
        const int turn = step * chunks + chunk;
        const int row_tiles = row_tiles_in(a.grid, tiles_of_rows, chunk);
        const int next_ready = chunks > 1 ? ready_at(a, turn + 1) : turn;
        for (int panel = 0; panel < a.grid.panels; ++panel) {
          prefetch_input(a, cta, panel, chunk, step);
          GridSums<O, kTiles> sums;
          const int ready = panel ? next_ready : ready_at(a, turn);
          panel_product(a.grid, a.memory, cta.weights, cta.stream, panel, tiles_of_rows, row_tiles,
                        ready, sums);
          // On their way while the sums meet.
          GateInput<Io> in[Cta::kSlots] = {};
          float c[Cta::kSlots] = {};
          LSTMREP_UNROLL
          for (int j = 0; j < Cta::kSlots; ++j) {
            const GridElement e = cta.element(s, a.grid, call.lengths, panel, chunk, j);
            if (!e.exists || !e.active(step)) continue;
            in[j] = load_input<Io>(call, e, step);
            c[j] = call.c_n[e.state(s)];
          }
          __syncthreads();  // the sums before have been read, and h of the turn before is stored
          store_sums(a.grid, row_tiles, sums);
          if (panel == 0 && chunks > 1) {
            if (arrives() && turn > 0) arrive(a, cta, (chunk ? chunk : chunks) - 1);
            failed = cta.wait_turns(a.grid, a.memory, ready + 1, next_ready);
          }
          if (__syncthreads_or(failed)) return false;
          cta.stream.top_up(a.grid, tiles_of_rows, next_ready);
          LSTMREP_UNROLL
          for (int j = 0; j < Cta::kSlots; ++j) {
            const GridElement e = cta.element(s, a.grid, call.lengths, panel, chunk, j);
            float z[kGates];
            total_sums<kTiles>(a.grid, row_tiles, j, z);
            if (!e.exists) continue;
            const Io h =
                forward_step<Io>(call, e, step, gate_sums(in[j], cta.bias(a.grid, panel, j), z),
                                 cta.peephole(a.grid, call.peephole, panel, j), c[j]);
            if (e.active(step)) {
              call.c_n[e.state(s)] = c[j];
              send(a, cta, e, step + 1, h);
            }
          }
        }
      }
    }
    return true;
  }

  LSTMREP_DEVICE static void give_up(const GridForwardArgs& a, const Cta& cta) {
    const RecurrenceForwardArgs& call = a.call;
    const RecurrenceShape& s = call.shape;
    for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
      cta.for_elements(s, a.grid, nullptr, chunk, [&](const GridElement& e, int, int) {
        const int64_t row = int64_t{e.recurrence} * s.t * s.b + e.batch, next = int64_t{s.b} * s.h;
        fill_nan(static_cast<Io*>(call.h), row * s.h + e.unit, s.t, next);
        fill_nan(call.c, row * s.h + e.unit, s.t, next);
        for (int m = 0; m < kGates; ++m) {
          fill_nan(static_cast<Io*>(call.gates), (row * 4 + m) * s.h + e.unit, s.t, 4 * next);
        }
        fill_nan(static_cast<Io*>(call.h_n), e.state(s), 1, 0);
        fill_nan(call.c_n, e.state(s), 1, 0);
      });
    }
    tell_host(a.memory);
  }

 private:
  // The last turn whose h is known to be complete when the product of a turn begins: all of the
  // first step, then as far ahead as the CTA's own arrivals allow, at most a turn.
  LSTMREP_DEVICE static int ready_at(const GridForwardArgs& a, int turn) {
    const int chunks = a.grid.chunks, last = a.call.shape.t * chunks - 1;
    const int ahead = chunks < 3 ? turn : turn + 1, known = ahead < last ? ahead : last;
    return known < chunks - 1 ? chunks - 1 : known;
  }

  // The input's share of the gates comes from far away: on its way while the product runs.
  LSTMREP_DEVICE static void prefetch_input(const GridForwardArgs& a, const Cta& cta, int panel,
                                            int chunk, int step) {
    if (!a.call.gates_x) return;
    const RecurrenceShape& s = a.call.shape;
    LSTMREP_UNROLL
    for (int j = 0; j < Cta::kSlots; ++j) {
      const GridElement e = cta.element(s, a.grid, a.call.lengths, panel, chunk, j);
      if (!e.exists || !e.active(step)) continue;
      const int64_t h = again(s.h);
      const Io* first =
          static_cast<const Io*>(a.call.gates_x) + e.frame_row(s, step) * 4 * h + e.unit;
      LSTMREP_UNROLL
      for (int m = 0; m < kGates; ++m) prefetch(first + m * h);
    }
  }

  LSTMREP_DEVICE static void arrive(const GridForwardArgs& a, const Cta& cta, int chunk) {
    cta.team_barrier(a.grid, a.memory, chunk).arrive();
  }
};

template <class O, int kTiles>
__global__ void __launch_bounds__(kGridThreads, 1)
    grid_forward_kernel(const __grid_constant__ GridForwardArgs a) {
  run_recurrences<GridForward<O, kTiles>>(a);
}

}  // namespace lstmrep
