// A program that runs one kernel on made-up data, for the builds under a sanitizer and for planted
// bugs: driver KERNEL PASS DTYPE H B T N ROWS SEED
//
// KERNEL: pointwise | resident | grid | frame_loss, whose H is the width D of a frame. PASS:
// forward | backward. DTYPE: float32 | tf32 | bfloat16 | float16. ROWS: of a CTA (resident) or a
// team (grid), in chunks of 8; above H = 64 a CTA of grid has two panels, the second streamed.
// SEED: of the emulator's schedule; the data are the same under every seed. Peepholes, lengths
// (whole, partial and zero) and reversed odd recurrences are on, and outputs that may alias an
// input do. Each array is a heap block of exactly its size. Prints "KERNEL PASS DTYPE CHECKSUM",
// the checksum over all bytes of all outputs. Exit code 4: the kernel gave up waiting, and stderr
// says whether all outputs are NaN; 3: the launch failed, why is on stderr; 2: the arguments are
// wrong.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "card.h"
#include "common/half_bits.h"
#include "cuda/cta_resident/launch.h"
#include "cuda/frame_loss/launch.h"
#include "cuda/grid_resident/launch.h"
#include "cuda/pointwise/launch.h"

// Weak: a program of one planted bug is linked with only the kernel that it runs.
namespace lstmrep {
namespace cuda {
__attribute__((weak)) void resident_forward(int, void*, DType, bool, const RecurrenceForwardArgs&);
__attribute__((weak)) void resident_backward(int, void*, DType, bool,
                                             const RecurrenceBackwardArgs&);
__attribute__((weak)) void grid_forward(int, void*, DType, bool, const GridForwardArgs&);
__attribute__((weak)) void grid_backward(int, void*, DType, bool, const GridBackwardArgs&);
__attribute__((weak)) void frame_loss_forward(int, void*, DType, const FrameLossForwardArgs&);
__attribute__((weak)) void frame_loss_backward(int, void*, DType, const FrameLossBackwardArgs&);
__attribute__((weak)) void pointwise_forward(int, void*, DType, CellKind,
                                             const PointwiseForwardArgs&);
__attribute__((weak)) void pointwise_backward(int, void*, DType, CellKind,
                                              const PointwiseBackwardArgs&);
}  // namespace cuda
}  // namespace lstmrep

namespace {

using lstmrep::DType;

struct Problem {
  std::string kernel;
  bool forward, tf32;
  DType io;
  int h, b, t, n, rows;
};

float load(DType type, const void* from, size_t j) {
  if (type == DType::kFloat32) return static_cast<const float*>(from)[j];
  if (type == DType::kBFloat16) {
    return lstmrep::bfloat16_to_float(static_cast<const lstmrep::BFloat16*>(from)[j]);
  }
  return lstmrep::float16_to_float(static_cast<const lstmrep::Float16*>(from)[j]);
}

void store(DType type, void* to, size_t j, float x) {
  if (type == DType::kFloat32) {
    static_cast<float*>(to)[j] = x;
  } else if (type == DType::kBFloat16) {
    static_cast<lstmrep::BFloat16*>(to)[j] = lstmrep::float_to_bfloat16(x);
  } else {
    static_cast<lstmrep::Float16*>(to)[j] = lstmrep::float_to_float16(x);
  }
}

// All arrays of a run. Outputs are NaN before they are written.
class Memory {
 public:
  void* input(DType type, size_t count, float scale) {
    void* made = take(type, count);
    for (size_t j = 0; j < count; ++j) store(type, made, j, scale * number());
    return made;
  }
  float* input(size_t count, float scale) {
    return static_cast<float*>(input(DType::kFloat32, count, scale));
  }
  void* output(DType type, size_t count) {
    void* made = take(type, count);
    memset(made, 0xFF, count * width(type));
    watch(type, made, count);
    return made;
  }
  float* output(size_t count) { return static_cast<float*>(output(DType::kFloat32, count)); }
  // 16-byte aligned, as torch's memory is.
  void* zeros(size_t bytes) {
    blocks_.emplace_back(new char[bytes]);
    return memset(blocks_.back().get(), 0, bytes);
  }
  // What a kernel leaves is nobody's business.
  template <class E>
  E* scratch(size_t count) {
    void* made = take(DType::kFloat32, count);
    return static_cast<E*>(memset(made, 0xFF, count * sizeof(E)));
  }
  int32_t* lengths(size_t count, int t) {
    int32_t* made = static_cast<int32_t*>(take(DType::kFloat32, count));
    for (size_t j = 0; j < count; ++j) made[j] = t - static_cast<int>(2 * j % (t + 1));
    return made;
  }
  // An input that the kernel overwrites.
  void watch(DType type, const void* what, size_t count) {
    outputs_.push_back({static_cast<const unsigned char*>(what), count * width(type), type});
  }

  // Whether each element of each output is NaN.
  bool all_nan() const {
    for (const Bytes& o : outputs_) {
      for (size_t j = 0; j < o.count / width(o.type); ++j) {
        if (!std::isnan(load(o.type, o.first, j))) return false;
      }
    }
    return true;
  }

  uint64_t checksum() const {  // FNV-1a
    uint64_t sum = 0xCBF29CE484222325u;
    for (const Bytes& o : outputs_) {
      for (size_t j = 0; j < o.count; ++j) sum = (sum ^ o.first[j]) * 0x100000001B3u;
    }
    return sum;
  }

 private:
  struct Bytes {
    const unsigned char* first;
    size_t count;
    DType type;
  };

  static size_t width(DType type) { return type == DType::kFloat32 ? 4 : 2; }

  void* take(DType type, size_t count) {
    blocks_.emplace_back(new char[count * width(type)]);
    return blocks_.back().get();
  }

  float number() {  // in [-1, 1)
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(state_ >> 40) * 0x1p-23f - 1.0f;
  }

  std::vector<std::unique_ptr<char[]>> blocks_;
  std::vector<Bytes> outputs_;
  uint64_t state_ = 1;
};

// The arrays that both kernels have, by the names of their arguments.
struct Arrays {
  Memory& memory;
  size_t state, frames;  // elements of [N, B, H] and of [N, T, B, H]
  std::vector<const void*> w_hh;
  float *bias, *peephole;  // [N, 4H], [N, 3, H]
  int32_t* lengths;

  Arrays(const Problem& p, Memory& m) : memory(m) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(p.h));
    state = size_t(p.n) * p.b * p.h;
    frames = state * p.t;
    for (int n = 0; n < p.n; ++n) w_hh.push_back(memory.input(p.io, size_t(4) * p.h * p.h, scale));
    bias = memory.input(size_t(p.n) * 4 * p.h, 1.0f);
    peephole = memory.input(size_t(p.n) * 3 * p.h, 1.0f);
    lengths = memory.lengths(size_t(p.n) * p.b, p.t);
  }
};

constexpr uint64_t kReverse = 0xAAAAAAAAAAAAAAAAu;

// Of kernels over whole sequences: recurrences share their start state, and odd numbers of rows
// take float vectors.
struct Vectors {
  lstmrep::RecurrenceShape shape;
  DType type;
  size_t start;  // elements of a start state

  Vectors(const Problem& p, const Arrays& a) {
    const bool io = p.rows % 2 == 0, shared = p.n > 1;
    shape = {p.n, p.t, p.b, p.h, p.rows, 0, io, shared, kReverse};
    type = io ? p.io : DType::kFloat32;
    start = shared ? a.state / p.n : a.state;
  }
};

// The arguments that they share.
void fill(const Problem& p, Arrays& a, lstmrep::RecurrenceForwardArgs& args) {
  Memory& m = a.memory;
  const Vectors v(p, a);
  args.shape = v.shape;
  void* const gates = m.input(p.io, 4 * a.frames, 1.0f);
  m.watch(p.io, gates, 4 * a.frames);
  args.gates_x = args.gates = gates;
  for (int j = 0; j < p.n; ++j) args.bias[j] = m.input(v.type, 4 * p.h, 1.0f);
  for (int j = 0; j < 3 * p.n; ++j) args.peephole[j] = m.input(v.type, p.h, 1.0f);
  args.h0 = m.input(p.io, v.start, 1.0f);
  args.c0 = m.input(v.start, 1.0f);
  args.lengths = a.lengths;
  args.h = m.output(p.io, a.frames);
  args.h_n = m.output(p.io, a.state);
  args.c_n = m.output(a.state);
  args.c = m.output(a.frames);
  std::copy(a.w_hh.begin(), a.w_hh.end(), args.w_hh);
}

void fill(const Problem& p, Arrays& a, lstmrep::RecurrenceBackwardArgs& args) {
  Memory& m = a.memory;
  const Vectors v(p, a);
  args.shape = v.shape;
  void* const gates = m.input(p.io, 4 * a.frames, 1.0f);
  m.watch(p.io, gates, 4 * a.frames);
  for (int j = 0; j < 3 * p.n; ++j) args.peephole[j] = m.input(v.type, p.h, 1.0f);
  args.c0 = m.input(v.start, 1.0f);
  args.lengths = a.lengths;
  args.gates = args.d_gates = gates;
  args.c = m.input(a.frames, 1.0f);
  args.grad_h = m.input(p.io, a.frames, 1.0f);
  args.grad_h_n = m.input(p.io, a.state, 1.0f);
  args.grad_c_n = m.input(a.state, 1.0f);
  args.d_h0 = m.output(p.io, v.start);
  args.d_c0 = m.output(v.start);
  const size_t parts = (p.b + p.rows - 1) / p.rows;
  args.vectors = m.output(v.type, size_t(lstmrep::kRecurrenceSums) * p.n * p.h);
  args.sums = m.scratch<float>(p.n * parts * lstmrep::sums_pitch(p.h));
  args.start_parts = m.scratch<float>(2 * a.state);
  std::copy(a.w_hh.begin(), a.w_hh.end(), args.w_hh);
}

void run_resident(const Problem& p, Arrays& a) {
  if (p.forward) {
    lstmrep::RecurrenceForwardArgs args = {};
    fill(p, a, args);
    lstmrep::cuda::resident_forward(0, nullptr, p.io, p.tf32, args);
  } else {
    lstmrep::RecurrenceBackwardArgs args = {};
    fill(p, a, args);
    args.arrivals = a.memory.scratch<uint32_t>((p.b + p.rows - 1) / p.rows + p.n);
    lstmrep::cuda::resident_backward(0, nullptr, p.io, p.tf32, args);
  }
}

// False when the kernel gave up.
bool run_grid(const Problem& p, Arrays& a) {
  Memory& m = a.memory;
  const bool many = p.h > 64;
  lstmrep::GridShape grid = {};
  grid.tiles = 4;
  grid.panels = many ? 2 : 1;
  grid.members = (p.h + 16 * grid.panels - 1) / (16 * grid.panels);
  if (!p.forward) grid.members = (grid.members + 3) / 4 * 4;
  grid.replicas = (p.b + p.rows - 1) / p.rows;
  grid.concurrent = p.n;
  grid.row_tiles = 1;
  grid.slots = 3;
  grid.most_shared = many ? 0 : 1;
  const bool tensor = p.tf32 || p.io != DType::kFloat32;
  const lstmrep::GridShape sizes =
      lstmrep::grid_layout(grid, p.h, p.rows, p.io == DType::kFloat32 ? 4 : 2, tensor, !p.forward);
  const size_t teams = size_t(p.n) * grid.replicas;
  uint32_t gave_up = 0;
  lstmrep::GridMemory memory = {};
  memory.exchange = m.zeros(lstmrep::grid_exchange_bytes(sizes, p.n, !p.forward));
  memory.counters = static_cast<uint32_t*>(m.zeros(teams * sizes.counters * 4));
  memory.streamed = m.zeros(lstmrep::grid_streamed_bytes(sizes) + 1);
  memory.parts = static_cast<float*>(m.zeros(teams * grid.members * sizes.parts * 4 + 1));
  memory.gave_up = &gave_up;
  memory.budget_ns =
      2000000;  // of the emulated clock: many more looks than any of these runs needs
  if (p.forward) {
    lstmrep::GridForwardArgs args = {};
    fill(p, a, args.call);
    args.grid = grid;
    args.memory = memory;
    lstmrep::cuda::grid_forward(0, nullptr, p.io, p.tf32, args);
  } else {
    lstmrep::GridBackwardArgs args = {};
    fill(p, a, args.call);
    args.call.arrivals =
        static_cast<uint32_t*>(m.zeros(4 * size_t(grid.members) * (grid.replicas + p.n)));
    args.dc = p.n > 1 ? args.call.start_parts + a.state : args.call.d_c0;
    args.grid = grid;
    args.memory = memory;
    lstmrep::cuda::grid_backward(0, nullptr, p.io, p.tf32, args);
  }
  return gave_up == 0;
}

// [N, B, rows of W] from x [N, B, columns of W]; W is w_hh, or its transpose.
void product(const Problem& p, const Arrays& a, const void* x, bool transposed, float* out) {
  const int rows = transposed ? p.h : 4 * p.h, columns = transposed ? 4 * p.h : p.h;
  for (int j = 0; j < p.n * p.b; ++j) {
    for (int r = 0; r < rows; ++r) {
      float sum = 0.0f;
      for (int k = 0; k < columns; ++k) {
        const size_t at = transposed ? size_t(k) * p.h + r : size_t(r) * p.h + k;
        sum += load(p.io, a.w_hh[j / p.b], at) * load(p.io, x, size_t(j) * columns + k);
      }
      out[size_t(j) * rows + r] = sum;
    }
  }
}

void run_pointwise(const Problem& p, Arrays& a) {
  Memory& m = a.memory;
  constexpr lstmrep::CellKind kCell = lstmrep::CellKind::kTanh;
  lstmrep::PointwiseShape shape = {p.n, p.t, p.b, p.h, 0, kReverse};
  void* const gates = m.input(p.io, 4 * a.frames, 1.0f);
  m.watch(p.io, gates, 4 * a.frames);
  if (p.forward) {
    lstmrep::PointwiseForwardArgs args = {};
    float* const recurrent = m.output(4 * a.state);
    args.gates_x = args.gates = gates;
    args.recurrent = recurrent;
    args.bias = a.bias;
    args.peephole = a.peephole;
    args.lengths = a.lengths;
    args.c_state = m.input(a.state, 1.0f);
    args.h_state = m.input(p.io, a.state, 1.0f);
    m.watch(DType::kFloat32, args.c_state, a.state);
    m.watch(p.io, args.h_state, a.state);
    args.h = m.output(p.io, a.frames);
    args.c = m.output(a.frames);
    for (shape.step = 0; shape.step < p.t; ++shape.step) {
      product(p, a, args.h_state, false, recurrent);
      args.shape = shape;
      lstmrep::cuda::pointwise_forward(0, nullptr, p.io, kCell, args);
    }
  } else {
    lstmrep::PointwiseBackwardArgs args = {};
    float* const dh = m.output(a.state);
    args.peephole = a.peephole;
    args.lengths = a.lengths;
    args.gates = args.d_gates = gates;
    args.c = m.input(a.frames, 1.0f);
    args.c0 = m.input(a.state, 1.0f);
    args.grad_h = m.input(p.io, a.frames, 1.0f);
    args.grad_h_n = m.input(p.io, a.state, 1.0f);
    args.grad_c_n = m.input(a.state, 1.0f);
    args.dh_recurrent = dh;
    args.dc = m.output(a.state);
    args.d_step = m.input(p.io, 4 * a.state, 0.0f);
    m.watch(p.io, args.d_step, 4 * a.state);
    args.sums = m.input(lstmrep::kPointwiseSums * a.state, 0.0f);
    m.watch(DType::kFloat32, args.sums, lstmrep::kPointwiseSums * a.state);
    for (shape.step = p.t - 1; shape.step >= 0; --shape.step) {
      product(p, a, args.d_step, true, dh);
      args.shape = shape;
      lstmrep::cuda::pointwise_backward(0, nullptr, p.io, kCell, args);
    }
  }
}

// Of N heads, odd ones tell a frame less and read the clip backwards, batch-first; every third kind
// of loss by T.
void run_frame_loss(const Problem& p, Memory& m) {
  const int d = p.h, clip = p.t + 1;
  const lstmrep::FrameLossShape shape = {p.n,
                                         p.t,
                                         p.b,
                                         d,
                                         lstmrep::frame_loss_chunks(p.n, p.t, p.b, d),
                                         p.t % lstmrep::kFrameKinds,
                                         p.b % 2,
                                         p.b % 2,
                                         int64_t{clip} * d};
  const DType vector = p.b % 2 ? p.io : DType::kFloat32;
  const size_t width = vector == DType::kFloat32 ? 4 : 2;
  const size_t all = size_t(p.n) * p.t * p.b * d, tiles = lstmrep::frame_loss_tiles(d);
  lstmrep::FrameLossHead heads[lstmrep::kFrameLossHeads] = {};
  const char* const frames = static_cast<char*>(m.input(vector, size_t(clip) * p.b * d, 1.0f));
  for (int n = 0; n < p.n; ++n) {
    const int count = n % 2 && p.t > 1 ? p.t - 1 : p.t;
    heads[n] = {m.input(vector, d, 1.0f), frames + (n % 2 ? count : 1) * d * width,
                n % 2 ? -int64_t{d} : int64_t{d}, count, 0.5f + n};
  }
  void* const z = m.input(p.io, all, 2.0f);
  if (p.forward) {
    lstmrep::FrameLossForwardArgs args = {};
    args.shape = shape;
    std::copy(std::begin(heads), std::end(heads), args.head);
    m.watch(p.io, z, all);
    args.z = z;
    args.parts = m.scratch<float>(p.n * shape.chunks * tiles);
    args.arrivals = m.scratch<uint32_t>(1);
    args.losses = m.output(p.n);
    args.total = m.output(1);
    lstmrep::cuda::frame_loss_forward(0, nullptr, p.io, args);
  } else {
    lstmrep::FrameLossBackwardArgs args = {};
    args.shape = shape;
    std::copy(std::begin(heads), std::end(heads), args.head);
    args.z = z;
    args.grad_total = m.input(1, 1.0f);
    args.grad_losses = m.input(p.n, 1.0f);
    args.grad_z = m.input(p.io, all, 1.0f);
    args.d_z = m.output(p.io, all);
    args.parts = m.scratch<float>(size_t(p.n) * shape.chunks * d);
    args.arrivals = m.scratch<uint32_t>(p.n * tiles);
    args.d_bias = m.output(vector, size_t(p.n) * d);
    lstmrep::cuda::frame_loss_backward(0, nullptr, p.io, args);
  }
}

bool read(int count, char** arguments, Problem& p, unsigned& seed) {
  if (count != 10) return false;
  const std::string pass = arguments[2], type = arguments[3];
  p.kernel = arguments[1];
  const bool resident = p.kernel == "resident" || p.kernel == "grid",
             heads = p.kernel == "frame_loss";
  p.forward = pass == "forward";
  p.tf32 = type == "tf32";
  p.io = type == "bfloat16"  ? DType::kBFloat16
         : type == "float16" ? DType::kFloat16
                             : DType::kFloat32;
  int* const sizes[] = {&p.h, &p.b, &p.t, &p.n, &p.rows};
  for (int j = 0; j < 5; ++j) {
    *sizes[j] = atoi(arguments[4 + j]);
    if (*sizes[j] < 1) return false;
  }
  seed = static_cast<unsigned>(strtoul(arguments[9], nullptr, 10));
  return p.n <= (heads ? lstmrep::kFrameLossHeads : lstmrep::kRecurrences) &&
         (resident || heads || p.kernel == "pointwise") && (p.forward || pass == "backward") &&
         (p.io != DType::kFloat32 || p.tf32 || type == "float32") && (resident || !p.tf32);
}

}  // namespace

int main(int count, char** arguments) {
  Problem p = {};
  if (!read(count, arguments, p, emulator::machine().seed)) {
    fputs("driver KERNEL PASS DTYPE H B T N ROWS SEED\n", stderr);
    return 2;
  }
  Memory memory;
  try {
    if (p.kernel == "frame_loss") {
      run_frame_loss(p, memory);
    } else {
      Arrays arrays(p, memory);
      if (p.kernel == "pointwise") run_pointwise(p, arrays);
      if (p.kernel == "resident") run_resident(p, arrays);
      if (p.kernel == "grid" && !run_grid(p, arrays)) {
        fprintf(stderr, "gave up, %s\n", memory.all_nan() ? "all outputs are NaN" : "not all NaN");
        return 4;
      }
    }
  } catch (const std::runtime_error& error) {
    fprintf(stderr, "%s\n", error.what());
    return 3;
  }
  printf("%s %s %s %016llx\n", arguments[1], arguments[2], arguments[3],
         static_cast<unsigned long long>(memory.checksum()));
  return 0;
}
