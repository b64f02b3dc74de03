// A program that runs one kernel on made-up data, for the builds under a sanitizer and for planted
// bugs: driver KERNEL PASS DTYPE H B T N ROWS SEED
//
// KERNEL: pointwise | resident | frame_loss, whose H is the width D of a frame. PASS: forward |
// backward. DTYPE: float32 | tf32 | bfloat16 | float16. ROWS: of a CTA, resident only. SEED: of the
// emulator's schedule; the data are the same under every seed. Peepholes, lengths (whole, partial
// and zero) and reversed odd recurrences are on, and outputs that may alias an input do. Each array
// is a heap block of exactly its size. Prints "KERNEL PASS DTYPE CHECKSUM", the checksum over all
// bytes of all outputs. Exit code 3: the launch failed, why is on stderr; 2: the arguments are
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
#include "cuda/pointwise/launch.h"

// Weak: a program of one planted bug is linked with only the kernel that it runs.
namespace lstmrep {
namespace cuda {
__attribute__((weak)) void resident_forward(int, void*, DType, bool, const ResidentForwardArgs&);
__attribute__((weak)) void resident_backward(int, void*, DType, bool, const ResidentBackwardArgs&);
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
    outputs_.push_back({static_cast<const unsigned char*>(what), count * width(type)});
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

void run_resident(const Problem& p, Arrays& a) {
  Memory& m = a.memory;
  // Recurrences share their start state; odd numbers of rows a CTA take float vectors.
  const bool vector_io = p.rows % 2 == 0, shared = p.n > 1;
  const lstmrep::ResidentShape shape = {p.n, p.t, p.b, p.h, p.rows, 0, vector_io, shared, kReverse};
  const size_t start = shared ? a.state / p.n : a.state;
  const DType vector = vector_io ? p.io : DType::kFloat32;
  void* const gates = m.input(p.io, 4 * a.frames, 1.0f);
  m.watch(p.io, gates, 4 * a.frames);
  float* const c0 = m.input(start, 1.0f);
  const void* peephole[3 * lstmrep::kResidentRecurrences] = {};
  for (int j = 0; j < 3 * p.n; ++j) peephole[j] = m.input(vector, p.h, 1.0f);
  if (p.forward) {
    lstmrep::ResidentForwardArgs args = {};
    args.shape = shape;
    args.gates_x = args.gates = gates;
    for (int j = 0; j < p.n; ++j) args.bias[j] = m.input(vector, 4 * p.h, 1.0f);
    std::copy(std::begin(peephole), std::end(peephole), args.peephole);
    args.h0 = m.input(p.io, start, 1.0f);
    args.c0 = c0;
    args.lengths = a.lengths;
    args.h = m.output(p.io, a.frames);
    args.h_n = m.output(p.io, a.state);
    args.c_n = m.output(a.state);
    args.c = m.output(a.frames);
    std::copy(a.w_hh.begin(), a.w_hh.end(), args.w_hh);
    lstmrep::cuda::resident_forward(0, nullptr, p.io, p.tf32, args);
  } else {
    lstmrep::ResidentBackwardArgs args = {};
    args.shape = shape;
    std::copy(std::begin(peephole), std::end(peephole), args.peephole);
    args.c0 = c0;
    args.lengths = a.lengths;
    args.gates = args.d_gates = gates;
    args.c = m.input(a.frames, 1.0f);
    args.grad_h = m.input(p.io, a.frames, 1.0f);
    args.grad_h_n = m.input(p.io, a.state, 1.0f);
    args.grad_c_n = m.input(a.state, 1.0f);
    args.d_h0 = m.output(p.io, start);
    args.d_c0 = m.output(start);
    const size_t ctas = (p.b + p.rows - 1) / p.rows;
    args.vectors = m.output(vector, size_t(lstmrep::kResidentSums) * p.n * p.h);
    args.sums = m.scratch<float>(p.n * ctas * lstmrep::resident_sums_pitch(p.h));
    args.start_parts = m.scratch<float>(2 * a.state);
    args.arrivals = m.scratch<uint32_t>(ctas + p.n);
    std::copy(a.w_hh.begin(), a.w_hh.end(), args.w_hh);
    lstmrep::cuda::resident_backward(0, nullptr, p.io, p.tf32, args);
  }
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
  const bool resident = p.kernel == "resident", heads = p.kernel == "frame_loss";
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
  return p.n <= (heads ? lstmrep::kFrameLossHeads : lstmrep::kResidentRecurrences) &&
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
      p.kernel == "pointwise" ? run_pointwise(p, arrays) : run_resident(p, arrays);
    }
  } catch (const std::runtime_error& error) {
    fprintf(stderr, "%s\n", error.what());
    return 3;
  }
  printf("%s %s %s %016llx\n", arguments[1], arguments[2], arguments[3],
         static_cast<unsigned long long>(memory.checksum()));
  return 0;
}
