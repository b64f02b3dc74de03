// The recurrence of a team over the whole sequence, backward.
//
// dh' = d W_hh has K = 4H. Were K whole in every CTA, each would gather all four gate gradients of
// all units; so K is split over the four CTAs of a group, one gate each: a CTA multiplies its gate
// of all units with the group's 16 kTiles columns, the product of the forward pass in size and
// traffic, and hands each member of the group the sums for that member's own units. The member
// adds the four in the order of the gates, runs the cell and sends its four gate gradients to all.
//
// A step is two phases over the chunks: products, then cells. Each chunk has a barrier of the group
// for the sums and one of the team for the gate gradients, so that either is waited for a whole
// phase after most of it was written. dc lives in its output; the bias and peephole sums of each
// element in shared memory, added over the batch at the end.
#pragma once

#include "cuda/grid_resident/cta.cuh"
#include "cuda/primitives/last_arrival.h"
#include "cuda/recurrence/sums.cuh"

namespace lstmrep {

template <class O, int kTiles>
struct GridBackward {
  using Io = typename OperandOf<O>::Io;
  using Cta = GridCta<O, kTiles, false>;

  // False when the CTA gave up.
  LSTMREP_DEVICE static bool run(const GridBackwardArgs& a, Cta& cta) {
    const RecurrenceBackwardArgs& call = a.call;
    const RecurrenceShape& s = call.shape;
    for (int j = threadIdx.x; j < totals(a, kRecurrenceSums); j += kGridThreads) {
      totals_memory(a)[j] = 0.0f;
    }
    cta.store_vectors(s, a.grid, nullptr, call.peephole);
    for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
      cta.for_elements(s, a.grid, nullptr, chunk, [&](const GridElement& e, int, int) {
        a.dc[e.state(s)] = call.grad_c_n ? call.grad_c_n[e.state(s)] : 0.0f;
      });
    }
    for (int step = s.t - 1; step >= 0; --step) {
      const int round = s.t - 2 - step;  // of the product that this step needs
      if (round >= 0 && !products(a, cta, round)) return false;
      for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
        for (int panel = 0; panel < a.grid.panels; ++panel) {
          SavedStep<Io> saved[Cta::kSlots] = {};  // on their way while the CTA waits
          LSTMREP_UNROLL
          for (int j = 0; j < Cta::kSlots; ++j) {
            const GridElement e = cta.element(s, a.grid, call.lengths, panel, chunk, j);
            if (e.exists && e.active(step)) saved[j] = load_saved<Io>(call, e, step);
          }
          if (panel == 0 && !begin_cells(a, cta, chunk, round)) return false;
          LSTMREP_UNROLL
          for (int j = 0; j < Cta::kSlots; ++j) {
            const GridElement e = cta.element(s, a.grid, call.lengths, panel, chunk, j);
            if (e.exists) cell(a, cta, e, j, panel, chunk, step, round, saved[j]);
          }
        }
      }
    }
    if (call.d_h0) {
      const int round = s.t - 1;
      if (round >= 0 && !products(a, cta, round)) return false;
      for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
        if (!begin_cells(a, cta, chunk, round)) return false;
        cta.for_elements(
            s, a.grid, call.lengths, chunk, [&](const GridElement& e, int j, int panel) {
              // A row without a step hands its last state's gradient through.
              const float d =
                  e.length == 0 ? load_grad_h_n<Io>(call, e) : gathered(a, cta, j, panel, chunk);
              if (s.shared_start) {
                call.start_parts[e.state(s)] = d;
              } else {
                static_cast<Io*>(call.d_h0)[e.start(s)] = from_float<Io>(d);
              }
            });
      }
    }
    if (s.shared_start && call.start_parts) add_starts(a, cta);
    store_totals(a, cta);
    return true;
  }

  LSTMREP_DEVICE static void give_up(const GridBackwardArgs& a, const Cta& cta) {
    const RecurrenceBackwardArgs& call = a.call;
    const RecurrenceShape& s = call.shape;
    for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
      cta.for_elements(s, a.grid, nullptr, chunk, [&](const GridElement& e, int, int) {
        const int64_t row = int64_t{e.recurrence} * s.t * s.b + e.batch, next = int64_t{s.b} * s.h;
        for (int m = 0; m < kGates; ++m) {
          fill_nan(static_cast<Io*>(call.d_gates), (row * 4 + m) * s.h + e.unit, s.t, 4 * next);
        }
        fill_nan(static_cast<Io*>(call.d_h0), e.start(s), 1, 0);
        fill_nan(call.d_c0, e.start(s), 1, 0);
        fill_nan(a.dc, e.state(s), 1, 0);
        if (!call.vectors) return;
        for (int k = 0; k < kRecurrenceSums; ++k) {
          store_vector_sum<Io>(call, e.n(), k * s.h + e.unit, word_to_float(0x7FC00000u));
        }
      });
    }
    tell_host(a.memory);
  }

 private:
  // The sums dh of one round for all chunks, on their way to the members of the group.
  LSTMREP_DEVICE static bool products(const GridBackwardArgs& a, Cta& cta, int round) {
    const int last = a.grid.chunks - 1, first_turn = round * a.grid.chunks;
    const int tiles_of_rows = Cta::tiles_of_rows(a.call.shape);
    __syncthreads();  // the gate gradients of the last chunk are stored
    if (arrives()) cta.team_barrier(a.grid, a.memory, last).arrive();
    bool failed = cta.wait_turns(a.grid, a.memory, first_turn, first_turn + ahead_of(0, last));
    if (__syncthreads_or(failed)) return false;
    for (int chunk = 0; chunk <= last; ++chunk) {
      const int row_tiles = row_tiles_in(a.grid, tiles_of_rows, chunk);
      for (int panel = 0; panel < a.grid.panels; ++panel) {
        GridSums<O, kTiles> sums;
        const int ready = first_turn + ahead_of(again(chunk) + (panel ? 1 : 0), last);
        panel_product(a.grid, a.memory, cta.weights, cta.stream, panel, tiles_of_rows, row_tiles,
                      ready, sums);
        __syncthreads();  // the sums before have been read, and those for the group are stored
        store_sums(a.grid, row_tiles, sums);
        const int next_ready = first_turn + ahead_of(again(chunk) + 1, last);
        if (panel == 0) {
          if (arrives() && chunk > 0) group_barrier(a, cta, again(chunk) - 1).arrive();
          failed = cta.wait_turns(a.grid, a.memory, ready + 1, next_ready);
        }
        if (__syncthreads_or(failed)) return false;
        cta.stream.top_up(a.grid, tiles_of_rows, next_ready);
        LSTMREP_UNROLL
        for (int j = 0; j < Cta::kSlots; ++j) {
          float sum[4];
          total_sums<kTiles>(a.grid, row_tiles, j, sum);
          LSTMREP_UNROLL
          for (int q = 0; q < kGates; ++q) {
            const int64_t at = part_at(a, cta, q, member() % kGates, j, panel, chunk);
            if (at >= 0) a.memory.parts[at] = sum[q];
          }
        }
      }
    }
    __syncthreads();  // the sums for the group are stored
    if (arrives()) group_barrier(a, cta, last).arrive();
    return true;
  }

  // The last chunk of a round whose gate gradients are known to be complete when the product of a
  // chunk begins.
  LSTMREP_DEVICE static int ahead_of(int chunk, int last) {
    return chunk + 1 < last ? chunk + 1 : last;
  }

  // Before the cells of a chunk: the group's sums of the round are there, if the step needs any,
  // and the gate gradients of the chunk before are announced. All chunks but the last, whose sums
  // are the newest, are waited for at once, each by a thread.
  LSTMREP_DEVICE static bool begin_cells(const GridBackwardArgs& a, const Cta& cta, int chunk,
                                         int round) {
    const int last = a.grid.chunks - 1;
    bool failed = false;
    if (round >= 0 && (chunk == 0 || chunk == last)) {
      const int end = chunk == last ? last + 1 : last;
      for (int one = chunk + static_cast<int>(threadIdx.x); one < end; one += kGridThreads) {
        if (!group_barrier(a, cta, one).wait(round)) failed = true;
      }
    }
    if (__syncthreads_or(failed)) return false;
    if (arrives() && chunk > 0) cta.team_barrier(a.grid, a.memory, chunk - 1).arrive();
    return true;
  }

  LSTMREP_DEVICE static void cell(const GridBackwardArgs& a, const Cta& cta, const GridElement& e,
                                  int j, int panel, int chunk, int step, int round,
                                  const SavedStep<Io>& saved) {
    const RecurrenceBackwardArgs& call = a.call;
    float dc = a.dc[e.state(call.shape)], total[kRecurrenceSums] = {};
    const float dh = round >= 0 ? gathered(a, cta, j, panel, chunk) : 0.0f;
    const PeepholeValues<float> p = cta.peephole(a.grid, call.peephole, panel, j);
    const GateValues<float> out = backward_step<Io>(call, e, step, saved, p, dh, dc, total);
    a.dc[e.state(call.shape)] = dc;
    float* mine = totals_memory(a) + total_at(a, grid_place<kTiles>(j), panel);
    const int next = totals(a, 1);
    LSTMREP_UNROLL
    for (int k = 0; k < kRecurrenceSums; ++k) mine[k * next] += total[k];
    const float d[kGates] = {out.i, out.f, out.g, out.o};
    LSTMREP_UNROLL
    for (int m = 0; m < kGates; ++m) {
      *cta.operand_at(a.grid, a.memory, e, m, round + 1) =
          OperandOf<O>::round(to_float(from_float<Io>(d[m])));
    }
  }

  // dh of slot j from the four members of the group, in the order of the gates.
  LSTMREP_DEVICE static float gathered(const GridBackwardArgs& a, const Cta& cta, int j, int panel,
                                       int chunk) {
    float sum = 0.0f;
    LSTMREP_UNROLL
    for (int from = 0; from < kGates; ++from) {
      const int64_t at = part_at(a, cta, member() % kGates, from, j, panel, chunk);
      sum += word_to_float(load_coherent(reinterpret_cast<const uint32_t*>(a.memory.parts + at)));
    }
    return sum;
  }

  LSTMREP_DEVICE static int member() { return static_cast<int>(blockIdx.x); }

  // Sums that member `from` of this group hands member `to` for slot j: [team][to][chunk][panel]
  // [from][column][unit], -1 for slots without an element.
  LSTMREP_DEVICE static int64_t part_at(const GridBackwardArgs& a, const Cta& cta, int to, int from,
                                        int j, int panel, int chunk) {
    const GridPlace place = grid_place<kTiles>(j);
    const int columns = a.grid.row_tiles * kGridRowTile;
    if (!place.exists || place.column >= columns) return -1;
    const int64_t cta_to =
        cta.team(a.grid) * a.grid.members + (member() & ~(kGates - 1)) + again(to);
    const int64_t block = (cta_to * a.grid.chunks + chunk) * a.grid.panels + panel;
    return ((block * kGates + from) * columns + place.column) * Cta::kUnits + place.unit;
  }

  // The barrier over the four CTAs of this group for one chunk.
  LSTMREP_DEVICE static CounterBarrier group_barrier(const GridBackwardArgs& a, const Cta& cta,
                                                     int chunk) {
    const int place = (1 + member() / kGates) * a.grid.chunks + chunk;
    return cta.barrier(a.grid, a.memory, place, kGates);
  }

  LSTMREP_DEVICE static float* totals_memory(const GridBackwardArgs& a) {
    return reinterpret_cast<float*>(dynamic_shared() + a.grid.totals);
  }
  // Totals in shared memory: [kinds][panels][columns][units].
  LSTMREP_DEVICE static int totals(const GridBackwardArgs& a, int kinds) {
    return kinds * a.grid.panels * a.grid.row_tiles * kGridRowTile * Cta::kUnits;
  }
  LSTMREP_DEVICE static int total_at(const GridBackwardArgs& a, const GridPlace& place, int panel) {
    return (panel * a.grid.row_tiles * kGridRowTile + place.column) * Cta::kUnits + place.unit;
  }
  // Bias and peephole gradients of the CTA's units: added over the team's rows, then over the teams
  // by the last of the CTAs that have these units.
  LSTMREP_DEVICE static void store_totals(const GridBackwardArgs& a, const Cta& cta) {
    const RecurrenceBackwardArgs& call = a.call;
    if (!call.vectors) return;
    __syncthreads();  // the totals are complete
    const int columns = a.grid.row_tiles * kGridRowTile, h = call.shape.h, pitch = sums_pitch(h);
    float* mine = call.sums + cta.team(a.grid) * pitch;
    for_sums(a, [&](int k, int panel, int within, int unit) {
      const float* from = totals_memory(a) + totals(a, k) + total_at(a, {true, within, 0}, panel);
      float sum = 0.0f;
      for (int column = 0; column < columns; ++column) sum += from[column * Cta::kUnits];
      mine[k * h + unit] = sum;
    });
    const int place = cta.recurrence * a.grid.members + member();
    if (!arrives_last(call.arrivals + place, a.grid.replicas)) return;
    const float* all = call.sums + int64_t{cta.recurrence} * a.grid.replicas * pitch;
    for_sums(a, [&](int k, int, int, int unit) {
      float sum = 0.0f;
      for (int replica = 0; replica < a.grid.replicas; ++replica) {
        const float* part = all + int64_t{replica} * pitch + k * h + unit;
        sum += word_to_float(load_coherent(reinterpret_cast<const uint32_t*>(part)));
      }
      store_vector_sum<Io>(call, cta.recurrence, k * h + unit, sum);
    });
  }

  // Calls f(kind, panel, unit within the panel, unit) for this thread's share of the CTA's sums.
  template <class F>
  LSTMREP_DEVICE static void for_sums(const GridBackwardArgs& a, const F& f) {
    const int units = a.grid.panels * Cta::kUnits;
    for (int j = threadIdx.x; j < kRecurrenceSums * units; j += kGridThreads) {
      const int panel = j % units / Cta::kUnits, within = j % Cta::kUnits;
      const int unit = (panel * a.grid.members + member()) * Cta::kUnits + within;
      if (unit < a.call.shape.h) f(j / units, panel, within, unit);
    }
  }

  // Start gradients that all recurrences share, by the last of the CTAs that have these elements.
  LSTMREP_DEVICE static void add_starts(const GridBackwardArgs& a, const Cta& cta) {
    const RecurrenceBackwardArgs& call = a.call;
    const int place = (call.shape.n + static_cast<int>(blockIdx.y)) * a.grid.members + member();
    if (!arrives_last(call.arrivals + place, call.shape.n)) return;
    for (int chunk = 0; chunk < a.grid.chunks; ++chunk) {
      cta.for_elements(call.shape, a.grid, nullptr, chunk,
                       [&](const GridElement& e, int, int) { store_shared_start<Io>(call, e); });
    }
  }
};

template <class O, int kTiles>
__global__ void __launch_bounds__(kGridThreads, 1)
    grid_backward_kernel(const __grid_constant__ GridBackwardArgs a) {
  run_recurrences<GridBackward<O, kTiles>>(a);
}

}  // namespace lstmrep
