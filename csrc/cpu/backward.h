// Backward pass over a whole sequence: gate gradients, start-state gradients, bias and peephole
// sums.
//
// A panel is 4 * lanes hidden units. As in forward, a thread owns panels with all their rows, or
// rows with all their panels. A step (t from T-1 down) of a panel is dh = d_{t+1} W_hh for its
// units, then the cell's backward on them; the new gate gradients go to the other half of a double
// buffer, so each step needs a single barrier, and none where threads own rows. dh and dc stay in
// C; the gate gradients that recur are operands (operand.h). A row enters at its last
// active step, t = length - 1, with grad_h_n and grad_c_n; later steps only write zeros.
// Bias and peephole sums: kRowBlock rows of a step, or of as many steps as have so many rows, in C,
// in order, then over T and over the blocks in double: the same whatever the number of threads and
// whatever they own. Equations: cell/lstm_cell.h. Not done here: the weight gradient, which is one
// GEMM over all steps.
#pragma once

#include "cell/lstm_cell.h"
#include "cpu/gemm.h"
#include "cpu/math.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"
#include "cpu/workspace.h"

namespace lstmrep {
namespace {

constexpr int kSums = 7;  // d_i, d_f, d_g, d_o, c' d_i, c' d_f, c d_o

template <class S, CellKind kCell>
struct Backward {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  static constexpr int kL = kLanes<C>;

  const CpuBackwardArgs& args;
  const CpuProblem& p;
  BackwardScratch<S> scratch;

  Backward(const CpuBackwardArgs& a, Carver carver) : args(a), p(a.p), scratch(a.p, carver) {}

  C* dc_state(int64_t n, int64_t b, int64_t u) const {
    return scratch.dc + (n * p.b + b) * scratch.panels * 4 * kL + u;
  }
  Operand<S>* d_state(int which, int64_t n, int64_t b) const {
    return scratch.d[which] + (n * p.b + b) * scratch.ldg;
  }
  Operand<S>* panel_of(int64_t n, int64_t panel) const {
    return scratch.weights + (n * scratch.panels + panel) * scratch.depth * 4 * kL;
  }
  const S* weights_of(int64_t n) const { return static_cast<const S*>(p.w_hh[n]); }
  int64_t sums_at(int64_t n, int64_t block, int64_t panel) const {
    return ((n * row_blocks(p) + block) * scratch.panels + panel) * kSums * 4 * kL;
  }

  void pack(const Share& share) const {
    const int64_t items = p.n * scratch.panels;
    for (int64_t item = share.begin(items); item < share.end(items); ++item) {
      const int64_t n = item / scratch.panels, panel = item % scratch.panels;
      const S* w = weights_of(n);
      pack_unit_panel<S>(4 * p.h, p.h, panel * 4 * kL, panel_of(n, panel),
                         [&](int64_t j) { return w + j * p.h; });
    }
  }

  // Zeros in the sums, and behind the columns of d, which products read.
  void start(const Part& part) const {
    for (int64_t b = part.row; b < part.row_end; b += kRowBlock) {
      const int64_t first = sums_at(part.n, b / kRowBlock, 0);
      clear(scratch.totals + first, part.panel * kSums * 4 * kL, part.panel_end * kSums * 4 * kL);
    }
    if (part.panel_end < scratch.panels) return;
    for (int64_t b = part.row; b < part.row_end; ++b) {
      clear(d_state(0, part.n, b), 4 * p.h, scratch.ldg);
      clear(d_state(1, part.n, b), 4 * p.h, scratch.ldg);
    }
  }

  // Of the steps whose rows are summed together in C, which are more than one where the batch is
  // small: is a step the first of them to run, the last?
  struct Together {
    bool first, last;
  };
  Together together(int64_t t) const {
    const int64_t steps = p.b > 0 && p.b < kRowBlock ? kRowBlock / p.b : 1;
    return {t + 1 == p.t || (t + 1) % steps == 0, t % steps == 0};
  }

  // Where the sums of a block of rows stand, for a vector of units: one at every 4 * kL.
  struct Sums {
    C* recent;       // of the steps summed together so far
    double* totals;  // of those before
  };

  // What a step reads and writes of a row.
  struct Row {
    bool active, last;  // last: its last active step
    int64_t at;         // of its frame: row of [N, T, B]
    int64_t before;     // of the frame of the step before, where there is one
  };
  Row row_of(int64_t n, int64_t b, int64_t t) const {
    const int64_t length = row_length(p, n, b);
    const auto row = [&](int64_t step) {
      return (n * p.t + frame_of(p.reverse[n], length, step)) * p.b + b;
    };
    return {t < length, t == length - 1, row(t), row(t - 1)};
  }

  // The cell's backward of up to kRowBlock rows from b0 on in a step, on one vector of units from
  // u, whole or not. In two loops, as in forward: tanh of c first.
  // products: [rows, stride], from row b0 on, read only before a row's last active step.
  template <bool kWhole>
  void cells(int64_t n, int64_t b0, int64_t count, const Row* rows, int64_t t, int64_t u,
             const C* products, int64_t stride, Together steps, Sums held) const {
    using Math = typename MathOf<C>::type;
    const C* c0 = static_cast<const C*>(p.c0);                 // [N, B, H], may be null
    const S* gates = static_cast<const S*>(args.gates);        // [N, T, B, 4H]
    const C* c = static_cast<const C*>(args.c);                // [N, T, B, H]
    const S* grad_h = static_cast<const S*>(args.grad_h);      // [N, T, B, H], may be null
    const S* grad_h_n = static_cast<const S*>(args.grad_h_n);  // [N, B, H], may be null
    const C* grad_c_n = static_cast<const C*>(args.grad_c_n);  // [N, B, H], may be null
    S* d_gates = static_cast<S*>(args.d_gates);                // [N, T, B, 4H]
    const int64_t size = p.h, units = kWhole ? kL : size - u;
    const PeepholeValues<V> peep = load_peepholes<S, V>(p, n, u, units);
    V squashed[kRowBlock];
    for (int64_t j = 0; j < count; ++j) {
      squashed[j] = cell_squashed<kCell, Math>(load_first<V>(c + rows[j].at * size + u, units));
    }
    V sums[kSums] = {};
    // Loops of known lengths: with one whose length is not the sums would not stay in registers.
    const auto for_sums = [&](const auto& body) {
      for (int q = 0; q < kGates; ++q) body(q);
      if (!args.d_peephole) return;
      for (int q = kGates; q < kSums; ++q) body(q);
    };
    if (!steps.first) {
      for_sums([&](int q) { sums[q] = load_raw<V>(held.recent + q * 4 * kL); });
    }
    for (int64_t j = 0; j < count; ++j) {
      const Row row = rows[j];
      const int64_t b = b0 + j;
      const int64_t state = (n * p.b + b) * size + u;
      if (row.active) {
        V dh, dc;
        if (row.last) {
          dh = grad_h_n ? Io<S>::load(grad_h_n + state, units) : V{};
          dc = grad_c_n ? load_first<V>(grad_c_n + state, units) : V{};
        } else {
          dh = load_raw<V>(products + j * stride);
          dc = load_raw<V>(dc_state(n, b, u));
        }
        if (grad_h) dh += Io<S>::load(grad_h + row.at * size + u, units);
        V c_prev = {};
        if (t > 0) {
          c_prev = load_first<V>(c + row.before * size + u, units);
        } else if (c0) {
          c_prev = load_first<V>(c0 + state, units);
        }
        const S* first = gates + row.at * 4 * size + u;
        const GateValues<V> a = {Io<S>::load(first, units), Io<S>::load(first + size, units),
                                 Io<S>::load(first + 2 * size, units),
                                 Io<S>::load(first + 3 * size, units)};
        const CellGradient<V> out =
            cell_gradient<kCell, Math>(a, c_prev, squashed[j], peep, dh, dc);
        store_raw(dc_state(n, b, u), out.dc_prev);
        S* kept = d_gates + row.at * 4 * size + u;
        Operand<S>* d = d_state(static_cast<int>(t & 1), n, b) + u;
        store_both<S>(kept, d, out.d.i, units);
        store_both<S>(kept + size, d + size, out.d.f, units);
        store_both<S>(kept + 2 * size, d + 2 * size, out.d.g, units);
        store_both<S>(kept + 3 * size, d + 3 * size, out.d.o, units);
        sums[0] += out.d.i;
        sums[1] += out.d.f;
        sums[2] += out.d.g;
        sums[3] += out.d.o;
        if (args.d_peephole) {
          sums[4] += c_prev * out.d.i;
          sums[5] += c_prev * out.d.f;
          sums[6] += load_first<V>(c + row.at * size + u, units) * out.d.o;
        }
      } else {
        for (int g = 0; g < kGates; ++g) {
          Io<S>::store(d_gates + (row.at * kGates + g) * size + u, V{}, units);
        }
      }
    }
    for_sums([&](int q) {
      if (!steps.last) return store_raw(held.recent + q * 4 * kL, sums[q]);
      C lanes[kL];
      store_raw(lanes, sums[q]);
      double* totals = held.totals + q * 4 * kL;
      for (int lane = 0; lane < kL; ++lane) totals[lane] += static_cast<double>(lanes[lane]);
    });
  }

  // Where d_t W_hh of a panel stands: a vector v of row b at at(b, v).
  struct Products {
    C* first;
    int64_t row;     // that first belongs to
    int64_t stride;  // of a row
    C* at(int64_t b, int v) const { return first + (b - row) * stride + v * kL; }
  };

  Products products_of(const Share& share, const Part& part, int64_t panel) const {
    if (p.packed) {
      C* own = scratch.products + share.thread * (p.b + kTileRows) * 4 * kL;
      return {own, part.row, 4 * kL};
    }
    const int64_t at = (part.n * scratch.panels + panel) * 4 * kL;
    return {scratch.products + at, 0, p.n * scratch.panels * 4 * kL};
  }

  // d_t W_hh for the units of a panel, rows active at t only.
  void product(const Part& part, int64_t panel, int64_t t, C* products) const {
    const RowMajor<S> d = {d_state(static_cast<int>(t & 1), part.n, part.row), scratch.ldg};
    if (!kInTiles<S> && p.b == 1) {
      if (t < row_length(p, part.n, 0)) {
        row_product<S>(d.first, panel_of(part.n, panel), scratch.depth, scratch.far,
                       goes_back(t - 1, scratch.far), products);
      }
      return;
    }
    panel_product<S>(d, part.row_end - part.row, panel_of(part.n, panel), scratch.depth,
                     scratch.far, false, products,
                     [&](int64_t r) { return t < row_length(p, part.n, part.row + r); });
  }

  // The same for all panels of a thread, from W_hh where it lies: long runs of its rows.
  void stream(const Share& share, const Part& part, int64_t t) const {
    const int64_t u0 = part.panel * 4 * kL;
    const int64_t end = part.panel_end * 4 * kL < p.h ? part.panel_end * 4 * kL : p.h;
    const Products out = products_of(share, part, part.panel);
    stream_units(weights_of(part.n), p.h, u0, end - u0, p.b,
                 d_state(static_cast<int>(t & 1), part.n, 0), scratch.ldg, out.first, out.stride);
  }

  // Asks for what the cells of a panel will read, from as far as memory and in pieces too short for
  // the processor to foresee, while the product before them runs. (Not inlined it would be taken
  // for a function without effect, and go.)
  LSTMREP_VECTOR_INLINE void ask_for(const Part& part, int64_t panel, int64_t t) const {
    const S* gates = static_cast<const S*>(args.gates);
    const C* c = static_cast<const C*>(args.c);
    const S* grad_h = static_cast<const S*>(args.grad_h);
    const int64_t u0 = panel * 4 * kL, units = p.h - u0 < 4 * kL ? p.h - u0 : 4 * kL;
    for (int64_t b = part.row; b < part.row_end; ++b) {
      const Row row = row_of(part.n, b, t);
      for (int64_t u = u0; u < u0 + units; u += 64 / sizeof(S)) {
        for (int g = 0; g < kGates; ++g) {
          __builtin_prefetch(gates + (row.at * kGates + g) * p.h + u, 0, 2);
        }
        if (grad_h) __builtin_prefetch(grad_h + row.at * p.h + u, 0, 2);
      }
      for (int64_t u = u0; t > 0 && u < u0 + units; u += 64 / sizeof(C)) {
        __builtin_prefetch(c + row.before * p.h + u, 0, 2);
      }
    }
  }

  // Asks at once for the gate gradients of a single row, part of which other threads have just
  // written: its product would meet their lines one by one, as far as a processor looks ahead.
  LSTMREP_VECTOR_INLINE void ask_for_row(int64_t n, int64_t t) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Operand<S>));
    const Operand<S>* d = d_state(static_cast<int>(t & 1), n, 0);
    for (int64_t k = 0; k < 4 * p.h; k += kLine) __builtin_prefetch(d + k, 0, 3);
  }

  void step(const Part& part, int64_t panel, int64_t t, Products products) const {
    const int64_t n = part.n, u0 = panel * 4 * kL;
    const Together steps = together(t);
    if (p.packed && t + 1 < p.t) {
      if (p.b > 1) ask_for(part, panel, t);
      product(part, panel, t + 1, products.first);
    }
    for (int64_t b0 = part.row; b0 < part.row_end; b0 += kRowBlock) {
      const int64_t count = part.row_end - b0 < kRowBlock ? part.row_end - b0 : kRowBlock;
      const int64_t at = sums_at(n, b0 / kRowBlock, panel);
      Row rows[kRowBlock];
      for (int64_t j = 0; j < count; ++j) rows[j] = row_of(n, b0 + j, t);
      for (int v = 0; v < 4 && u0 + v * kL < p.h; ++v) {
        const int64_t u = u0 + v * kL;
        const C* first = products.at(b0, v);
        const Sums sums = {scratch.recent + at + v * kL, scratch.totals + at + v * kL};
        if (p.h - u >= kL) {
          cells<true>(n, b0, count, rows, t, u, first, products.stride, steps, sums);
        } else {
          cells<false>(n, b0, count, rows, t, u, first, products.stride, steps, sums);
        }
      }
    }
  }

  // Gradients of the start state; a row of length 0 hands its incoming gradients through.
  void finish_state(const Part& part, int64_t panel, Products products) const {
    const S* grad_h_n = static_cast<const S*>(args.grad_h_n);  // [N, B, H], may be null
    const C* grad_c_n = static_cast<const C*>(args.grad_c_n);  // [N, B, H], may be null
    S* d_h0 = static_cast<S*>(args.d_h0);                      // [N, B, H], may be null
    C* d_c0 = static_cast<C*>(args.d_c0);                      // [N, B, H], may be null
    const int64_t n = part.n, u0 = panel * 4 * kL;
    if (p.packed && d_h0 && p.t > 0) product(part, panel, 0, products.first);
    for (int64_t b = part.row; b < part.row_end; ++b) {
      const bool ran = row_length(p, n, b) > 0;
      for (int v = 0; v < 4 && u0 + v * kL < p.h; ++v) {
        const int64_t u = u0 + v * kL;
        const int64_t units = p.h - u;
        const int64_t at = (n * p.b + b) * p.h + u;
        V dh = {}, dc = {};
        if (ran) {
          if (d_h0) dh = load_raw<V>(products.at(b, v));
          dc = load_raw<V>(dc_state(n, b, u));
        } else {
          if (grad_h_n) dh = Io<S>::load(grad_h_n + at, units);
          if (grad_c_n) dc = load_first<V>(grad_c_n + at, units);
        }
        if (d_h0) Io<S>::store(d_h0 + at, dh, units);
        if (d_c0) store_first(d_c0 + at, dc, units);
      }
    }
  }

  // Over all blocks of rows, in order.
  void finish_sums(int64_t n, int64_t panel) const {
    for (int q = 0; q < (args.d_peephole ? kSums : kGates); ++q) {
      for (int v = 0; v < 4 && (panel * 4 + v) * kL < p.h; ++v) {
        const int64_t u = (panel * 4 + v) * kL;
        double totals[kL] = {};
        for (int64_t block = 0; block < row_blocks(p); ++block) {
          const double* more = scratch.totals + sums_at(n, block, panel) + (q * 4 + v) * kL;
          for (int lane = 0; lane < kL; ++lane) totals[lane] += more[lane];
        }
        C sums[kL];
        for (int lane = 0; lane < kL; ++lane) sums[lane] = static_cast<C>(totals[lane]);
        if (q < kGates) {
          put(args.d_bias, (n * kGates + q) * p.h + u, load_raw<V>(sums), p.h - u);
        } else {
          put(args.d_peephole[n * kPeepholes + q - kGates], u, load_raw<V>(sums), p.h - u);
        }
      }
    }
  }

  // Into an array of vectors over the units, which may be null.
  void put(void* array, int64_t at, V sums, int64_t count) const {
    if (array && p.vectors_as_io) {
      Io<S>::store(static_cast<S*>(array) + at, sums, count);
    } else if (array) {
      store_first(static_cast<C*>(array) + at, sums, count);
    }
  }

  void run() const {
    const int64_t panels = scratch.panels;
    run_team(p.threads, p.n * pieces(p, panels), [&](const Share& share) {
      const TileScope<S> tiles;
      if (p.packed) pack(share);
      for_parts(p, panels, share, [&](const Part& part) { start(part); });
      share.wait();
      for (int64_t t = p.t - 1; t >= 0; --t) {
        for_parts(p, panels, share, [&](const Part& part) {
          if (p.b == 1) ask_for_row(part.n, t + 1);
          if (!p.packed && t + 1 < p.t) stream(share, part, t + 1);
          for_panels(part, t, scratch.far,
                     [&](int64_t panel) { step(part, panel, t, products_of(share, part, panel)); });
        });
        if (!p.by_rows) share.wait();
      }
      for_parts(p, panels, share, [&](const Part& part) {
        if (!p.packed && args.d_h0 && p.t > 0) stream(share, part, 0);
        for (int64_t panel = part.panel; panel < part.panel_end; ++panel) {
          finish_state(part, panel, products_of(share, part, panel));
        }
      });
      if (p.by_rows) share.wait();  // for the sums of others' rows
      const int64_t items = p.n * panels;
      for (int64_t item = share.begin(items); item < share.end(items); ++item) {
        finish_sums(item / panels, item % panels);
      }
    });
  }
};

template <class S>
void backward_of(const CpuBackwardArgs& args) {
  const Carver carver{static_cast<char*>(args.p.workspace), 0};
  if (args.p.cell == static_cast<int>(CellKind::kRelu)) {
    Backward<S, CellKind::kRelu>(args, carver).run();
  } else {
    Backward<S, CellKind::kTanh>(args, carver).run();
  }
}

}  // namespace
}  // namespace lstmrep
