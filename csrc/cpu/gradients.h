// Gradients of x, W_ih and W_hh of one recurrence, from the gate gradients of all its frames.
//
//   d_x[r, :]    = d[r, :] W_ih                         r a frame of a row, T B in all
//   d_W_ih[m, :] = sum over r of d[r, m] x[r, :]        m a gate of a unit, 4H in all
//   d_W_hh[m, :] = sum over r of d[r, m] h'[r, :]       h' the state before the frame's step
// All by the micro-kernel of gemm.h. For d_x a thread owns rows, for the matrices it owns panels of
// m with all their columns: it adds kGradientRows rows at a time to sums that stay in its
// second-level cache, and writes each sum once. Both factors of those are read as they lie, rows of
// d and rows of x or h', packed without a transpose. Sums run in C over 4H (d_x) or over the rows
// in order, in blocks that depend on nothing else: not on the threads. Frames beyond a sequence's
// end count as zero, whatever x holds there.
#pragma once

#include "cpu/gemm.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace lstmrep {
namespace {

template <class S>
struct Gradients {
  using C = typename Io<S>::C;
  using V = Vec<C>;
  static constexpr int kL = kLanes<C>;
  static constexpr int64_t kWidth = kPanelWidth<S>;

  const CpuGradientsArgs& args;
  GradientsScratch<S> scratch;

  Gradients(const CpuGradientsArgs& a, Carver carver) : args(a), scratch(a, a.d_x, carver) {}

  const S* d_row(int64_t r) const { return static_cast<const S*>(args.d_gates) + r * 4 * args.h; }

  bool active(int64_t t, int64_t b) const { return !args.lengths || t < args.lengths[b]; }

  // Null for a row that counts as zero.
  const S* x_row(int64_t t, int64_t b) const {
    return active(t, b) ? static_cast<const S*>(args.x) + t * args.x_t + b * args.x_b : nullptr;
  }

  const S* h_row_before(int64_t t, int64_t b) const {
    if (!active(t, b)) return nullptr;
    const S* h = static_cast<const S*>(args.h_out);  // [T, B, H]
    const S* h0 = static_cast<const S*>(args.h0);    // [B, H], may be null
    const int64_t last =
        args.lengths && args.lengths[b] < args.t ? args.lengths[b] - 1 : args.t - 1;
    const bool first_step = t == (args.reverse ? last : 0);
    if (first_step) return h0 ? h0 + b * args.h : nullptr;
    return h + ((args.reverse ? t + 1 : t - 1) * args.b + b) * args.h;
  }

  // Columns of x whose panels of W_ih are packed together with that of column u0 first.
  int64_t end_of(int64_t u0) const {
    const int64_t end = u0 + scratch.at_once * kWidth;
    return end < args.i ? end : args.i;
  }

  void pack_weights(int64_t panel, Operand<S>* to) const {
    const S* w = static_cast<const S*>(args.w_ih);  // [4H, I]
    pack_unit_panel<S>(4 * args.h, args.i, panel * kWidth, to,
                       [&](int64_t j) { return w + j * args.i; });
  }

  void pack_panels(const Share& share, int64_t u0) const {
    const int64_t panels = ceil_div(end_of(u0) - u0, kWidth);
    for (int64_t panel = share.begin(panels); panel < share.end(panels); ++panel) {
      pack_weights(u0 / kWidth + panel, scratch.weights + panel * scratch.depth * kWidth);
    }
  }

  // Gate gradients of `count` frames from r0 on as operands.
  RowMajor<S> rows_of(const Share& share, int64_t r0, int64_t count) const {
    if (scratch.as_they_lie) return {reinterpret_cast<const Operand<S>*>(d_row(r0)), 4 * args.h};
    Operand<S>* d = scratch.rows + share.thread * (scratch.most_rows + kTileRows) * scratch.ldd;
    for (int64_t r = 0; r < count; ++r) take_row(d_row(r0 + r), 4 * args.h, d + r * scratch.ldd);
    return {d, scratch.ldd};
  }

  // The columns of a panel, from u0 on, of `count` frames from r0 on.
  void input_columns(const Share& share, const RowMajor<S>& rows, int64_t r0, int64_t count,
                     const Operand<S>* panel, int64_t u0) const {
    S* d_x = static_cast<S*>(args.d_x);  // [T, B, I]
    C* products = scratch.products + share.thread * (scratch.most_rows + kTileRows) * kWidth;
    panel_product<S>(rows, count, panel, scratch.depth, scratch.far, false, products,
                     [](int64_t) { return true; });
    for (int64_t r = 0; r < count; ++r) {
      for (int v = 0; v < 4 && u0 + v * kL < args.i; ++v) {
        S* to = d_x + (r0 + r) * args.i + u0 + v * kL;
        const int64_t there = args.i - u0 - v * kL;
        V sum = load_raw<V>(products + r * kWidth + v * kL);
        if (args.add) sum += Io<S>::load(to, there);
        Io<S>::store(to, sum, there);
      }
    }
  }

  // Of the columns whose panels are packed.
  void input_gradient(const Share& share, int64_t first) const {
    const int64_t rows = args.t * args.b;
    for (int64_t r0 = share.begin(rows); r0 < share.end(rows); r0 += kShareRows) {
      const int64_t left = share.end(rows) - r0;
      const int64_t count = left < kShareRows ? left : kShareRows;
      const RowMajor<S> d = rows_of(share, r0, count);
      for (int64_t u0 = first; u0 < end_of(first); u0 += kWidth) {
        input_columns(share, d, r0, count, scratch.weights + (u0 - first) * scratch.depth, u0);
      }
    }
  }

  // Of all rows, each panel packed just before it is read.
  void input_gradient_by_panels(const Share& share) const {
    const int64_t panels = ceil_div(args.i, kWidth), rows = args.t * args.b;
    Operand<S>* weights = scratch.weights + share.thread * scratch.depth * kWidth;
    const RowMajor<S> d = rows_of(share, 0, rows);
    for (int64_t panel = share.begin(panels); panel < share.end(panels); ++panel) {
      pack_weights(panel, weights);
      input_columns(share, d, 0, rows, weights, panel * kWidth);
    }
  }

  // Columns of W_ih, then of W_hh: a panel of columns of one of them.
  struct Columns {
    S* d_w;  // [4H, width], out
    int64_t width, u0;
    bool input;
  };
  int64_t column_panels() const {
    return (args.d_w_ih ? ceil_div(args.i, kWidth) : 0) +
           (args.d_w_hh ? ceil_div(args.h, kWidth) : 0);
  }
  Columns columns_of(int64_t panel) const {
    const int64_t of_input = args.d_w_ih ? ceil_div(args.i, kWidth) : 0;
    if (panel < of_input) return {static_cast<S*>(args.d_w_ih), args.i, panel * kWidth, true};
    return {static_cast<S*>(args.d_w_hh), args.h, (panel - of_input) * kWidth, false};
  }

  // Where the sums of a whole panel of m are written at once, in C: few rows are added in one go,
  // and each sum would go to memory twice. Else null.
  C* in_place(const Columns& columns, int64_t m) const {
    if constexpr (sizeof(S) == sizeof(C)) {
      const int64_t rows = args.t * args.b;
      const bool whole = columns.u0 + kWidth <= columns.width && (m + 1) * kWidth <= 4 * args.h;
      if (whole && rows > 0 && rows <= kGradientRows) {
        return columns.d_w + m * kWidth * columns.width + columns.u0;
      }
    }
    return nullptr;
  }

  // Panels of m from m0 on, `count` of them, with up to kGradientColumns panels of columns from n0.
  void weight_gradients(const Share& share, int64_t m0, int64_t count, int64_t n0,
                        int64_t n1) const {
    constexpr int64_t kPanel = kGradientRows * kWidth, kBlock = kGradientPanels * kPanel;
    Operand<S>* inputs = scratch.inputs + share.thread * kGradientRows * kWidth;
    C* sums = scratch.sums + share.thread * kGradientPanels * kGradientColumns * kWidth * kWidth;
    const int64_t rows = args.t * args.b;
    const bool kept = rows <= scratch.blocks * kGradientRows;
    const bool packed = kept && n0 > 0;  // for the columns before
    for (int64_t r0 = 0; r0 < rows; r0 += kGradientRows) {
      const int64_t left = rows - r0 < kGradientRows ? rows - r0 : kGradientRows;
      const int64_t depth = padded_depth<S>(left);
      const int64_t block = kept ? r0 / kGradientRows : 0;
      Operand<S>* d = scratch.d + (share.thread * scratch.blocks + block) * kBlock;
      for (int64_t m = 0; !packed && m < count; ++m) {
        pack_unit_panel<S>(left, 4 * args.h, (m0 + m) * kWidth, d + m * kPanel,
                           [&](int64_t j) { return d_row(r0 + j); });
      }
      for (int64_t n = n0; n < n1; ++n) {
        const Columns columns = columns_of(n);
        int64_t t = r0 / args.b, b = r0 % args.b;
        pack_unit_panel<S>(left, columns.width, columns.u0, inputs, [&](int64_t) {
          const S* row = columns.input ? x_row(t, b) : h_row_before(t, b);
          if (++b == args.b) b = 0, ++t;
          return row;
        });
        for (int64_t m = 0; m < count; ++m) {
          C* to = in_place(columns, m0 + m);
          panel_product<S>(
              PanelMajor<S>{d + m * kPanel}, kWidth, inputs, depth, false, r0 > 0,
              to ? to : sums + ((n - n0) * kGradientPanels + m) * kWidth * kWidth,
              [](int64_t) { return true; }, to ? columns.width : kWidth);
        }
      }
    }
    for (int64_t n = n0; n < n1; ++n) {
      const Columns columns = columns_of(n);
      for (int64_t m = 0; m < count * kWidth && m0 * kWidth + m < 4 * args.h; ++m) {
        if (in_place(columns, m0 + m / kWidth)) continue;
        const C* sum = sums + ((n - n0) * kGradientPanels * kWidth + m) * kWidth;
        S* to = columns.d_w + (m0 * kWidth + m) * columns.width + columns.u0;
        for (int64_t u = 0; u < kWidth && columns.u0 + u < columns.width; u += kL) {
          Io<S>::store(to + u, rows ? load_raw<V>(sum + u) : V{}, columns.width - columns.u0 - u);
        }
      }
    }
  }

  void run() const {
    const int64_t panels = ceil_div(4 * args.h, kWidth), columns = column_panels();
    run_team(args.threads, args.t * args.b + panels, [&](const Share& share) {
      const TileScope<S> tiles;
      const bool by_rows = args.d_x && !scratch.by_panels;
      if (by_rows) pack_panels(share, 0);
      for (int64_t m = share.begin(panels); m < share.end(panels); m += kGradientPanels) {
        const int64_t left = share.end(panels) - m;
        const int64_t count = left < kGradientPanels ? left : kGradientPanels;
        for (int64_t n = 0; n < columns; n += kGradientColumns) {
          weight_gradients(share, m, count, n,
                           n + kGradientColumns < columns ? n + kGradientColumns : columns);
        }
      }
      if (args.d_x && !by_rows) input_gradient_by_panels(share);
      for (int64_t u0 = 0; by_rows && u0 < args.i; u0 = end_of(u0)) {
        if (u0 > 0) {
          share.wait();  // until all have read the panels before
          pack_panels(share, u0);
        }
        share.wait();  // for the panels of others
        input_gradient(share, u0);
      }
    });
  }
};

template <class S>
void gradients_of(const CpuGradientsArgs& args) {
  const Carver carver{static_cast<char*>(args.workspace), 0};
  Gradients<S>(args, carver).run();
}

}  // namespace
}  // namespace lstmrep
