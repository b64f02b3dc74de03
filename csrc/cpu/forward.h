// Forward pass over a whole sequence: N recurrences, T steps, B rows, H units, in one region.
//
// A panel is `lanes` hidden units with all four gates. A thread owns panels with all their rows, or
// rows with all their panels, for the whole sequence. A step of a panel is the product h' W_hh^T
// followed at once by the cell on those units, so that each step needs a single barrier, and none
// where threads own rows; h is double-buffered for that reason. h recurs rounded to S, c stays in
// C. The equations are in cell/lstm_cell.h. Step t of a row is frame t, or length - 1 - t in a
// reversed recurrence; from its length on a row keeps its state and gets zeros in h, gates and c at
// frame t.
// The input share x W_ih^T comes ready in gates_x, or is formed here: for a few steps ahead, so
// that what a thread forms is still in its cache when it adds it, and never rounded to S. Not done
// here: dropout.
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

template <class S, CellKind kCell>
struct Forward {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  static constexpr int kL = kLanes<C>;
  static constexpr bool kRecursAsC = sizeof(Operand<S>) == sizeof(C);

  const CpuForwardArgs& args;
  const CpuProblem& p;
  ForwardScratch<S> scratch;

  Forward(const CpuForwardArgs& a, Carver carver) : args(a), p(a.p), scratch(a.p, carver) {}

  C* c_state(int64_t n, int64_t b, int64_t u0) const {
    return scratch.c + (n * p.b + b) * scratch.panels * kL + u0;
  }
  Operand<S>* h_state(int which, int64_t n, int64_t b) const {
    return scratch.h[which] + (n * p.b + b) * scratch.ldh;
  }
  const Operand<S>* panel_of(int64_t n, int64_t panel) const {
    const int64_t size = scratch.depth * 4 * kL;
    if (args.packs) return static_cast<const Operand<S>*>(args.packs[n]) + panel * size;
    return scratch.weights + (n * scratch.panels + panel) * size;
  }
  const S* weights_of(int64_t n) const { return static_cast<const S*>(p.w_hh[n]); }
  const S* input_weights_of(int64_t n) const { return static_cast<const S*>(args.w_ih[n]); }
  Operand<S>* input_panel(int64_t place) const {
    return scratch.input_weights + place * scratch.input_depth * 4 * kL;
  }
  void pack_input_panel(int64_t n, int64_t panel, Operand<S>* to) const {
    pack_gate_panel(input_weights_of(n), p.h, p.i, panel * kL, to);
  }
  const Operand<S>* input_panel_of(const Share& share, int64_t n, int64_t panel) const {
    if (!scratch.input_once) return input_panel(n * scratch.panels + panel);
    pack_input_panel(n, panel, input_panel(share.thread));
    return input_panel(share.thread);
  }
  // Of row `row` of a part in step t.
  C* share_of(const Part& part, int64_t panel, int64_t t, int64_t row) const {
    const int64_t rows = part.row_end - part.row;
    const int64_t at = (part.n * scratch.panels + panel) * scratch.share_rows(p) +
                       part.row * scratch.steps + t % scratch.steps * rows + row;
    return scratch.shares + at * 4 * kL;
  }

  void pack(const Share& share) const {
    const int64_t items = p.n * scratch.panels;
    for (int64_t item = share.begin(items); item < share.end(items); ++item) {
      const int64_t n = item / scratch.panels, panel = item % scratch.panels;
      if (p.packed && !args.packs) {
        pack_gate_panel(weights_of(n), p.h, p.h, panel * kL,
                        scratch.weights + item * scratch.depth * 4 * kL);
      }
      if (p.packed && p.i && !scratch.input_once) pack_input_panel(n, panel, input_panel(item));
    }
  }

  // The frame of an active row as operands; zeros for one that has ended.
  void take_frame(int64_t n, int64_t b, int64_t t, Operand<S>* to) const {
    const int64_t length = row_length(p, n, b);
    const bool active = t < length;
    const int64_t frame = frame_of(p.reverse[n], length, t);
    const S* x = static_cast<const S*>(args.x) + n * args.x_n + frame * args.x_t + b * args.x_b;
    take_row(active ? x : nullptr, p.i, to);
  }

  // Input share of the steps from t on, for the units and rows of a part.
  void form_shares(const Share& share, const Part& part, int64_t t) const {
    const int64_t rows = part.row_end - part.row;
    const int64_t steps = p.t - t < scratch.steps ? p.t - t : scratch.steps;
    Operand<S>* x = scratch.x + share.thread * (scratch.at_once + kTileRows) * scratch.ldx;
    for (int64_t first = 0; first < steps * rows; first += scratch.at_once) {
      const int64_t left = steps * rows - first;
      const int64_t count = left < scratch.at_once ? left : scratch.at_once;
      int64_t step = t + first / rows, row = first % rows;
      for (int64_t j = 0; j < count; ++j) {
        take_frame(part.n, part.row + row, step, x + j * scratch.ldx);
        if (++row == rows) row = 0, ++step;
      }
      for (int64_t panel = part.panel; panel < part.panel_end; ++panel) {
        C* out = share_of(part, panel, t, first);
        if (p.packed) {
          panel_product<S>(RowMajor<S>{x, scratch.ldx}, count, input_panel_of(share, part.n, panel),
                           scratch.input_depth, scratch.input_far, false, out,
                           [](int64_t) { return true; });
          continue;
        }
        stream_gates(input_weights_of(part.n), p.h, p.i, panel * kL, count, x, scratch.ldx, out);
      }
    }
  }

  // Start states, and zeros behind the columns of h, which products read.
  void start(const Part& part) const {
    const S* h0 = static_cast<const S*>(args.h0);  // [N, B, H]
    const C* c0 = static_cast<const C*>(p.c0);     // [N, B, H]
    for (int64_t b = part.row; b < part.row_end; ++b) {
      for (int64_t u0 = part.panel * kL; u0 < part.panel_end * kL; u0 += kL) {
        const int64_t at = (part.n * p.b + b) * p.h + u0;
        const int64_t units = p.h - u0;
        Io<Operand<S>>::store(h_state(0, part.n, b) + u0, h0 ? Io<S>::load(h0 + at, units) : V{},
                              units);
        store_raw(c_state(part.n, b, u0), c0 ? load_first<V>(c0 + at, units) : V{});
      }
      if (part.panel_end < scratch.panels) continue;
      clear(h_state(0, part.n, b), p.h, scratch.ldh);
      clear(h_state(1, part.n, b), p.h, scratch.ldh);
    }
  }

  // What a step of a panel reads and writes of a row beside its states.
  struct Row {
    bool active;
    int64_t at;  // of its frame: row of [N, T, B]
  };
  Row row_of(int64_t n, int64_t b, int64_t t) const {
    const int64_t length = row_length(p, n, b);
    const bool active = t < length;
    const int64_t frame = frame_of(p.reverse[n], length, t);
    return {active, (n * p.t + frame) * p.b + b};
  }

  // The cell of all rows in a step, on a panel's units: one vector, whole or not. Two loops, each
  // of short and independent rounds: a processor overlaps those, but hardly a round with the next
  // one where h waits for c and c for three gates.
  // products: [rows, 4, lanes]. shares: the same, null when gates_x has them.
  template <bool kWhole>
  void cells(const Part& part, int64_t u0, int64_t t, const C* products, const C* shares) const {
    using Math = typename MathOf<C>::type;
    const S* gates_x = static_cast<const S*>(args.gates_x);  // [N, T, B, 4H], may be null
    S* h = static_cast<S*>(args.h);                          // [N, T, B, H]
    S* gates = static_cast<S*>(args.gates);                  // [N, T, B, 4H], may be null
    C* c = static_cast<C*>(args.c);                          // [N, T, B, H], may be null
    const int64_t n = part.n, size = p.h, units = kWhole ? kL : size - u0;
    const int now = static_cast<int>(t & 1);
    V biases[kGates] = {};
    for (int part = 0; part < args.bias_parts; ++part) {
      for (int g = 0; g < kGates; ++g) {
        biases[g] += load_vector<S>(p, args.bias[n * args.bias_parts + part], g * size + u0, units);
        if (p.vectors_as_io) biases[g] = Io<S>::round(biases[g]);  // as a sum of tensors is
      }
    }
    const PeepholeValues<V> peep = load_peepholes<S, V>(p, n, u0, units);
    const auto sum = [&](int64_t b, int64_t at, int g) {
      const int64_t place = ((b - part.row) * 4 + g) * kL;
      V z = load_raw<V>(products + place);
      if (shares) {
        z += load_raw<V>(shares + place);
      } else if (gates_x) {
        z += Io<S>::load(gates_x + (at * 4 + g) * size + u0, units);
      }
      return z + biases[g];
    };
    // Where all rows run to the end their frames lie side by side: no row is worked out twice.
    const bool full = !p.lengths;
    const int64_t first = row_of(n, 0, t).at;
    const auto row_at = [&](int64_t b) { return full ? Row{true, first + b} : row_of(n, b, t); };
    for (int64_t b = part.row; b < part.row_end; ++b) {
      const Row row = row_at(b);
      CellState<V> out = {};
      if (row.active) {
        C* state = c_state(n, b, u0);
        out = cell_state<kCell, Math>(sum(b, row.at, 0), sum(b, row.at, 1), sum(b, row.at, 2),
                                      load_raw<V>(state), peep);
        store_raw(state, out.c);
      }
      if (c) store_first(c + row.at * size + u0, out.c, units);
      if (gates) {
        S* to = gates + row.at * 4 * size + u0;
        Io<S>::store(to, out.i, units);
        Io<S>::store(to + size, out.f, units);
        Io<S>::store(to + 2 * size, out.g, units);
      }
    }
    for (int64_t b = part.row; b < part.row_end; ++b) {
      const Row row = row_at(b);
      S* kept = h + row.at * size + u0;
      Operand<S>* recurring = h_state(1 - now, n, b) + u0;
      V o = {};
      if (row.active) {
        const V value =
            cell_output<kCell, Math>(sum(b, row.at, 3), load_raw<V>(c_state(n, b, u0)), peep, o);
        // As C it is rounded first: what recurs is what is kept.
        store_both<S>(kept, recurring, kRecursAsC ? Io<S>::round(value) : value, units);
      } else {
        const V before = Io<Operand<S>>::load(h_state(now, n, b) + u0, units);
        Io<Operand<S>>::store(recurring, before, units);
        Io<S>::store(kept, V{}, units);
      }
      if (gates) Io<S>::store(gates + (row.at * 4 + 3) * size + u0, o, units);
    }
  }

  void step(const Part& part, int64_t panel, int64_t t, C* products) const {
    const int64_t n = part.n, u0 = panel * kL, count = part.row_end - part.row;
    const int now = static_cast<int>(t & 1);
    if (t == 0 && !args.h0) {
      clear(products, 0, count * 4 * kL);
    } else if (!p.packed) {
      stream_gates(weights_of(n), p.h, p.h, u0, p.b, h_state(now, n, 0), scratch.ldh, products);
    } else if (!kInTiles<S> && p.b == 1) {
      if (t < row_length(p, n, 0)) {
        row_product<S>(h_state(now, n, 0), panel_of(n, panel), scratch.depth, scratch.far,
                       goes_back(t, scratch.far), products);
      }
    } else {
      const RowMajor<S> rows = {h_state(now, n, part.row), scratch.ldh};
      panel_product<S>(rows, count, panel_of(n, panel), scratch.depth, scratch.far, false, products,
                       [&](int64_t r) { return t < row_length(p, n, part.row + r); });
    }
    const C* shares = p.i ? share_of(part, panel, t, 0) : nullptr;
    if (p.h - u0 >= kL) {
      cells<true>(part, u0, t, products, shares);
    } else {
      cells<false>(part, u0, t, products, shares);
    }
  }

  // The state after the last step, which inactive rows have carried along.
  void finish(const Part& part) const {
    S* h_n = static_cast<S*>(args.h_n);  // [N, B, H]
    C* c_n = static_cast<C*>(args.c_n);  // [N, B, H]
    for (int64_t b = part.row; b < part.row_end; ++b) {
      for (int64_t u0 = part.panel * kL; u0 < part.panel_end * kL; u0 += kL) {
        const int64_t at = (part.n * p.b + b) * p.h + u0;
        const int64_t units = p.h - u0;
        const Operand<S>* last = h_state(static_cast<int>(p.t & 1), part.n, b) + u0;
        Io<S>::store(h_n + at, Io<Operand<S>>::load(last, units), units);
        store_first(c_n + at, load_raw<V>(c_state(part.n, b, u0)), units);
      }
    }
  }

  void run() const {
    const int64_t panels = scratch.panels;
    run_team(p.threads, p.n * pieces(p, panels), [&](const Share& share) {
      const TileScope<S> tiles;
      C* products = scratch.products + share.thread * (p.b + kTileRows) * 4 * kL;
      pack(share);
      for_parts(p, panels, share, [&](const Part& part) { start(part); });
      share.wait();
      for (int64_t t = 0; t < p.t; ++t) {
        for_parts(p, panels, share, [&](const Part& part) {
          if (p.i && t % scratch.steps == 0) form_shares(share, part, t);
          for_panels(part, t, scratch.far, [&](int64_t panel) { step(part, panel, t, products); });
        });
        if (!p.by_rows) share.wait();
      }
      for_parts(p, panels, share, [&](const Part& part) { finish(part); });
    });
  }
};

template <class S>
void forward_of(const CpuForwardArgs& args) {
  const Carver carver{static_cast<char*>(args.p.workspace), 0};
  if (args.p.cell == static_cast<int>(CellKind::kRelu)) {
    Forward<S, CellKind::kRelu>(args, carver).run();
  } else {
    Forward<S, CellKind::kTanh>(args, carver).run();
  }
}

}  // namespace
}  // namespace lstmrep
