// How forward and backward cut the one scratch buffer, and the frame that a step reads.
//
// Only sizes and pointers; the buffer arrives uninitialised. Every part starts at a multiple of 64
// bytes. Row strides are padded by one vector beyond the vector multiple: with H a power of two the
// rows of a batch would otherwise fall into the same cache sets. Here too: which thread owns what.
#pragma once

#include "cell/lstm_cell.h"
#include "cpu/kernels.h"
#include "cpu/operand.h"
#include "cpu/parallel.h"
#include "cpu/tiles.h"

namespace lstmrep {
namespace {

// Rows whose bias and peephole gradients are summed together, whoever computes them.
constexpr int64_t kRowBlock = 8;

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Hands out consecutive parts of a buffer; with a null base it only adds up the size.
struct Carver {
  char* base;
  size_t used;
  template <class E>
  E* take(int64_t count) {
    E* part = base ? reinterpret_cast<E*>(base + used) : nullptr;
    used += (static_cast<size_t>(count) * sizeof(E) + 63) / 64 * 64;
    return part;
  }
};

// Columns of a row of operands: the padded depth, and one vector or tile more.
template <class S>
int64_t padded_row(int64_t columns) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(Operand<S>));
  return ceil_div(padded_depth<S>(columns), kLine) * kLine + kLine;
}

static inline int64_t row_blocks(const CpuProblem& p) { return ceil_div(p.b, kRowBlock); }

// What stays in a thread's second-level cache.
constexpr int64_t kCacheBytes = int64_t{1} << 20;

// Whether the panels of a thread are more than stays there beside the rows.
static inline bool far_panels(const CpuProblem& p, int64_t bytes) {
  return bytes / (p.by_rows ? 1 : p.threads) > kCacheBytes;
}

// Rows, steps times rows of the batch, whose input share is formed together: as many as stay in a
// second-level cache beside small panels, and enough to pay for reading large ones from beyond it.
constexpr int64_t kShareRows = 64, kShareRowsFar = 256;

template <class S>
struct ForwardScratch {
  using C = typename Io<S>::C;
  int64_t panels, depth, ldh;
  Operand<S>* weights;  // [N, panels, depth, 4, lanes], null where W_hh is not packed
  Operand<S>* h[2];     // [N, B, ldh] each: state before and after a step; kTileRows rows to spare
  C* c;                 // [N, B, panels * lanes]
  C* products;          // [threads, B to the next tile, 4, lanes]
  bool far;             // weights are there and read from beyond the second-level cache
  // Where the input share is formed here:
  int64_t input_depth, ldx, steps;
  int64_t at_once;            // rows of x
  bool input_far;             // as far, of input_weights
  bool input_once;            // a panel of W_ih is read once in all, and packed just before
  Operand<S>* input_weights;  // [N, panels, input_depth, 4, lanes], null where nothing is packed;
                              // [threads, input_depth, 4, lanes] where input_once
  Operand<S>* x;              // [threads, at_once to the next tile, ldx]
  C* shares;  // [N, panels, rows, 4, lanes], rows the steps of all rows of the first part, then of
              // the next, and a tile to spare; parts are blocks of 8 rows and steps even, so that
              // only the last one's tiles reach beyond its rows

  ForwardScratch(const CpuProblem& p, Carver& carver) {
    panels = ceil_div(p.h, kLanes<C>);
    depth = padded_depth<S>(p.h);
    ldh = padded_row<S>(p.h);
    const int64_t packed = p.n * panels * depth * 4 * kLanes<C>;
    weights = p.packed ? carver.take<Operand<S>>(packed) : nullptr;
    far = p.packed && far_panels(p, packed * static_cast<int64_t>(sizeof(Operand<S>)));
    for (auto& state : h) state = carver.take<Operand<S>>((p.n * p.b + kTileRows) * ldh);
    c = carver.take<C>(p.n * p.b * panels * kLanes<C>);
    products = carver.take<C>(p.threads * (p.b + kTileRows) * 4 * kLanes<C>);
    input_depth = padded_depth<S>(p.i);
    ldx = padded_row<S>(p.i);
    int64_t input_packed = p.n * panels * input_depth * 4 * kLanes<C>;
    input_far = far_panels(p, input_packed * static_cast<int64_t>(sizeof(Operand<S>)));
    at_once = input_far ? kShareRowsFar : kShareRows;
    steps = share_steps(p);
    input_once = !p.by_rows && p.t * p.b <= at_once;
    if (input_once) {
      input_packed = p.threads * input_depth * 4 * kLanes<C>;
      input_far = false;
    }
    input_weights = p.i && p.packed ? carver.take<Operand<S>>(input_packed) : nullptr;
    x = p.i ? carver.take<Operand<S>>(p.threads * (at_once + kTileRows) * ldx) : nullptr;
    shares = p.i ? carver.take<C>(p.n * panels * share_rows(p) * 4 * kLanes<C>) : nullptr;
  }

  // Steps whose input share is formed together.
  int64_t share_steps(const CpuProblem& p) const {
    const int64_t rows = p.by_rows ? ceil_div(row_blocks(p), p.threads) * kRowBlock : p.b;
    const int64_t most = rows ? ceil_div(at_once, rows) : 1;
    return ceil_div(most < p.t ? most : p.t, 2) * 2;  // even: see shares
  }
  // Of a panel.
  int64_t share_rows(const CpuProblem& p) const { return p.b * steps + kTileRows; }
};

template <class S>
struct BackwardScratch {
  using C = typename Io<S>::C;
  int64_t panels, depth, ldg;
  Operand<S>* weights;  // [N, panels, depth, 4, lanes], null where W_hh is not packed
  Operand<S>* d[2];     // [N, B, ldg] each: gate gradients (4H) of the step after and of this step;
                        // kTileRows rows to spare
  C* dc;                // [N, B, panels * 4 * lanes]
  C* products;          // [threads, B to the next tile, 4, lanes];
                        // [B, N, panels, 4, lanes] where W_hh is not packed
  double* totals;       // [N, row blocks, panels, 7, 4 * lanes]
  C* recent;            // the same
  bool far;             // as in ForwardScratch

  BackwardScratch(const CpuProblem& p, Carver& carver) {
    panels = ceil_div(p.h, 4 * kLanes<C>);
    depth = padded_depth<S>(4 * p.h);
    ldg = padded_row<S>(4 * p.h);
    const int64_t packed = p.n * panels * depth * 4 * kLanes<C>;
    weights = p.packed ? carver.take<Operand<S>>(packed) : nullptr;
    far = p.packed && far_panels(p, packed * static_cast<int64_t>(sizeof(Operand<S>)));
    for (auto& gradient : d) gradient = carver.take<Operand<S>>((p.n * p.b + kTileRows) * ldg);
    dc = carver.take<C>(p.n * p.b * panels * 4 * kLanes<C>);
    const int64_t rows = p.packed ? p.threads * (p.b + kTileRows) : p.n * panels * p.b;
    products = carver.take<C>(rows * 4 * kLanes<C>);
    totals = carver.take<double>(p.n * row_blocks(p) * panels * 7 * 4 * kLanes<C>);
    recent = carver.take<C>(p.n * row_blocks(p) * panels * 7 * 4 * kLanes<C>);
  }
};

// Of the gradients of W_ih and W_hh: rows that are added at once, and panels of gates by panels of
// columns whose sums a thread keeps, 512 KiB of float.
constexpr int64_t kGradientRows = 128, kGradientPanels = 8, kGradientColumns = 4;
// Bytes of packed gate gradients that a thread keeps from some panels of columns to the next.
constexpr int64_t kGradientKept = int64_t{4} << 20;
// Of the gradient of x: bytes of W_ih that are packed at once.
constexpr int64_t kGradientWeights = int64_t{16} << 20;

template <class S>
struct GradientsScratch {
  using C = typename Io<S>::C;
  int64_t depth, ldd, at_once;
  bool far;             // weights are read from beyond the second-level cache
  bool by_panels;       // of d_x a thread owns columns with all rows, not rows with all columns
  Operand<S>* weights;  // panels of W_ih, null where d_x is not wanted: [at_once, depth, 4, lanes],
                        // or [threads, depth, 4, lanes] where by_panels
  int64_t most_rows;    // that a thread holds: kShareRows, or all
  bool as_they_lie;     // rows of d_gates are operands that need no copy
  Operand<S>* rows;     // [threads, most_rows to the next tile, ldd], null where as_they_lie
  C* products;          // [threads, most_rows to the next tile, 4, lanes]
  int64_t blocks;       // of kGradientRows rows of d that a thread holds: all there are, or one
  Operand<S>* d;        // [threads, blocks, kGradientPanels, kGradientRows, 4, lanes]
  Operand<S>* inputs;   // [threads, kGradientRows, 4, lanes]
  C* sums;              // [threads, kGradientColumns, kGradientPanels, 4, lanes, 4, lanes]

  GradientsScratch(const CpuGradientsArgs& a, bool input, Carver& carver) {
    constexpr int64_t kWidth = 4 * kLanes<C>;
    depth = padded_depth<S>(4 * a.h);
    ldd = padded_row<S>(4 * a.h);
    constexpr int64_t kSize = sizeof(Operand<S>);
    const int64_t panel = depth * kWidth * kSize;
    const int64_t panels = ceil_div(a.i, kWidth), most = ceil_div(kGradientWeights, panel);
    at_once = panels < most ? panels : most;
    // Few rows do not pay for a pack of all W_ih that comes back from beyond the cache.
    const int64_t all = a.t * a.b;
    by_panels = panels >= a.threads && panel + (all + kTileRows) * ldd * kSize <= kCacheBytes;
    far = !by_panels && at_once * panel > kCacheBytes;
    const int64_t packed = by_panels ? a.threads : at_once;
    weights = input ? carver.take<Operand<S>>(packed * depth * kWidth) : nullptr;
    most_rows = by_panels ? all : kShareRows;
    // Long rows of one power of two after the other would fall into the same cache sets.
    as_they_lie = kStoredAsOperand<S> && !kInTiles<S> && depth == 4 * a.h &&
                  most_rows * depth * kSize <= kCacheBytes / 2;
    const int64_t taken = input ? a.threads * (most_rows + kTileRows) : 0;
    rows = as_they_lie ? nullptr : carver.take<Operand<S>>(taken * ldd);
    products = carver.take<C>(taken * kWidth);
    constexpr int64_t kBlock = kGradientPanels * kGradientRows * kWidth;
    blocks = ceil_div(all, kGradientRows);
    const bool again = panels + ceil_div(a.h, kWidth) > kGradientColumns;  // read more than once
    if (blocks < 1 || !again || blocks * kBlock * kSize > kGradientKept) blocks = 1;
    d = carver.take<Operand<S>>(a.threads * blocks * kBlock);
    inputs = carver.take<Operand<S>>(a.threads * kGradientRows * kWidth);
    sums = carver.take<C>(a.threads * kGradientColumns * kGradientPanels * kWidth * kWidth);
  }
};

template <class S>
size_t gradients_scratch_bytes(const CpuGradientsArgs& a, bool input) {
  Carver carver{nullptr, 0};
  GradientsScratch<S> scratch(a, input, carver);
  return carver.used;
}

template <class S>
size_t scratch_bytes(const CpuProblem& p, bool backward) {
  Carver carver{nullptr, 0};
  if (backward) {
    BackwardScratch<S> scratch(p, carver);
  } else {
    ForwardScratch<S> scratch(p, carver);
  }
  return carver.used;
}

// What a thread owns of recurrence n for the whole sequence: panels of units, and rows of the
// batch.
struct Part {
  int64_t n;
  int64_t panel, panel_end;
  int64_t row, row_end;
};

// Pieces that threads share out: blocks of rows with all their units, or panels with all their
// rows.
static inline int64_t pieces(const CpuProblem& p, int64_t panels) {
  return p.by_rows ? row_blocks(p) : panels;
}

// Whether step t goes through its weights from the last to the first, as every other step does:
// those that a step ends with are still in some cache when the next one begins. Not where packs are
// far: each panel asks ahead for the one behind it.
static inline bool goes_back(int64_t t, bool far) { return !far && t % 2 == 1; }

// The panels of a part, there or back.
template <class Body>
void for_panels(const Part& part, int64_t t, bool far, const Body& body) {
  const bool back = goes_back(t, far);
  for (int64_t j = 0; j < part.panel_end - part.panel; ++j) {
    body(back ? part.panel_end - 1 - j : part.panel + j);
  }
}

// Calls body(Part) for each recurrence that the thread owns something of.
template <class Body>
void for_parts(const CpuProblem& p, int64_t panels, const Share& share, const Body& body) {
  const int64_t each = pieces(p, panels);
  const int64_t end = share.end(p.n * each);
  for (int64_t item = share.begin(p.n * each); item < end;) {
    const int64_t n = item / each;
    const int64_t stop = (n + 1) * each < end ? (n + 1) * each : end;
    const int64_t first = item - n * each, last = stop - n * each;
    if (p.by_rows) {
      const int64_t row_end = last * kRowBlock < p.b ? last * kRowBlock : p.b;
      body(Part{n, 0, panels, first * kRowBlock, row_end});
    } else {
      body(Part{n, first, last, 0, p.b});
    }
    item = stop;
  }
}

// Up to a vector of units of a bias or peephole, from unit u0 on.
template <class S>
LSTMREP_VECTOR_INLINE Vec<typename Io<S>::C> load_vector(const CpuProblem& p, const void* vector,
                                                         int64_t u0, int64_t units) {
  using C = typename Io<S>::C;
  if (p.vectors_as_io) return Io<S>::load(static_cast<const S*>(vector) + u0, units);
  return load_first<Vec<C>>(static_cast<const C*>(vector) + u0, units);
}

// Those of the peepholes of recurrence n.
template <class S, class V>
LSTMREP_VECTOR_INLINE PeepholeValues<V> load_peepholes(const CpuProblem& p, int64_t n, int64_t u0,
                                                       int64_t units) {
  if (!p.peephole) return {false, V{}, V{}, V{}};
  const void* const* first = p.peephole + n * kPeepholes;
  return {true, load_vector<S>(p, first[0], u0, units), load_vector<S>(p, first[1], u0, units),
          load_vector<S>(p, first[2], u0, units)};
}

// Number of steps of row (n, b), clamped to [0, T].
static inline int64_t row_length(const CpuProblem& p, int64_t n, int64_t b) {
  if (!p.lengths) return p.t;
  const int64_t length = p.lengths[n * p.b + b];
  return length < 0 ? 0 : length > p.t ? p.t : length;
}

// Frame of step t of a row; steps from its length on keep frame t.
static inline int64_t frame_of(bool reverse, int64_t length, int64_t t) {
  return reverse && t < length ? length - 1 - t : t;
}

}  // namespace
}  // namespace lstmrep
