// One forward and one backward pass of the CPU kernels of one instruction set, and where they form
// the input share the gradients too, in a program that ThreadSanitizer watches; prints a checksum
// of all outputs.
//
//   tsan_driver <dtype 0|1> <N> <T> <B> <H> <packed> <by_rows> <threads> <granted> <fault>
//
// GNU OpenMP is not instrumented: ThreadSanitizer sees neither its fork nor its join. The kernels
// are compiled as ever, with -fopenmp, and this file stands in for the few entries of libgomp that
// they call, with threads that ThreadSanitizer knows. Each region starts fresh ones, which then are
// ordered by nothing but the kernels' own barrier; a team has at most `granted` of them. The fault
// is read by copies of the sources that have faults planted in them.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "cpu/kernels.h"

namespace {

unsigned granted = 1;
thread_local int my_number = 0;
thread_local int my_team = 1;

}  // namespace

extern "C" {

int planted_fault = 0;

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned /*flags*/) {
  const int size = static_cast<int>(std::min(threads, granted));
  const auto member = [=](int number) {
    my_number = number;
    my_team = size;
    body(data);
    my_number = 0;
    my_team = 1;
  };
  std::vector<std::thread> others;
  for (int j = 1; j < size; ++j) others.emplace_back(member, j);
  member(0);
  for (std::thread& other : others) other.join();
}

int omp_get_thread_num() { return my_number; }
int omp_get_num_threads() { return my_team; }
}

namespace lstmrep {
namespace {

#define JOIN(a, b) a##b
#define ACCESSOR(isa) JOIN(cpu_kernels_, isa)
const CpuKernels& kernels() { return ACCESSOR(LSTMREP_ISA)(); }

// An array of S or C values; the kernels get exactly its bytes.
using Bytes = std::vector<char>;

struct Maker {
  bool half;  // S is bfloat16, else float
  std::mt19937 random{7};

  Bytes compute(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
    const char* first = reinterpret_cast<const char*>(values.data());
    return Bytes(first, first + values.size() * sizeof(float));
  }
  Bytes io(int64_t count) {
    const Bytes wide = compute(count);
    if (!half) return wide;
    Bytes upper;  // halves of the floats: their bfloat16, cut off
    for (size_t j = 0; j < wide.size(); j += 4)
      upper.insert(upper.end(), {wide[j + 2], wide[j + 3]});
    return upper;
  }
};

uint64_t checksum(uint64_t sum, const Bytes& bytes) {
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return sum;
}

void* aligned(Bytes& bytes) {
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
}

// The sum with the gradients of x, W_ih and W_hh of all recurrences in it.
uint64_t gradients(uint64_t sum, const CpuForwardArgs& forward, const Bytes& d_gates) {
  const CpuProblem& p = forward.p;
  const size_t io = p.dtype == DType::kBFloat16 ? 2 : 4;
  const auto of = [&](const void* array, int64_t n, int64_t count) {
    return static_cast<const char*>(array) + static_cast<size_t>(n * count) * io;
  };
  CpuGradientsArgs args = {};
  args.dtype = p.dtype;
  args.threads = p.threads;
  args.t = p.t;
  args.b = p.b;
  args.h = p.h;
  args.i = p.i;
  args.x_t = forward.x_t;
  args.x_b = forward.x_b;
  Bytes d_x(static_cast<size_t>(p.t * p.b * p.i) * io);
  Bytes d_w_ih(static_cast<size_t>(4 * p.h * p.i) * io),
      d_w_hh(static_cast<size_t>(4 * p.h * p.h) * io);
  args.d_x = d_x.data();
  args.d_w_ih = d_w_ih.data();
  args.d_w_hh = d_w_hh.data();
  Bytes space(kernels().gradients_workspace_bytes(args, true) + 64, '\xff');
  args.workspace = aligned(space);
  for (int64_t n = 0; n < p.n; ++n) {
    args.d_gates = of(d_gates.data(), n, p.t * p.b * 4 * p.h);
    args.x = of(forward.x, n, forward.x_n);
    args.w_ih = forward.w_ih[n];
    args.h_out = of(forward.h, n, p.t * p.b * p.h);
    args.h0 = of(forward.h0, n, p.b * p.h);
    args.lengths = p.lengths + n * p.b;
    args.reverse = p.reverse[n];
    kernels().gradients(args);
    for (const Bytes* out : {&d_x, &d_w_ih, &d_w_hh}) sum = checksum(sum, *out);
  }
  return sum;
}

uint64_t run(CpuProblem p) {
  Maker make{p.dtype == DType::kBFloat16};
  const int64_t rows = p.n * p.b, frames = p.n * p.t * p.b;
  std::vector<Bytes> weights;
  std::vector<const void*> w_hh;
  for (int64_t n = 0; n < p.n; ++n) weights.push_back(make.io(4 * p.h * p.h));
  for (int64_t n = 0; n < p.n; ++n) weights.push_back(make.io(4 * p.h * p.i));
  for (const Bytes& w : weights) w_hh.push_back(w.data());
  const Bytes peephole = make.compute(p.n * 3 * p.h), c0 = make.compute(rows * p.h);
  const Bytes gates_x = make.io(frames * 4 * p.h), x = make.io(frames * p.i),
              bias = make.compute(p.n * 4 * p.h);
  const Bytes h0 = make.io(rows * p.h), grad_h = make.io(frames * p.h);
  const Bytes grad_h_n = make.io(rows * p.h), grad_c_n = make.compute(rows * p.h);
  std::vector<int32_t> lengths;  // T, T - 1, ..., 0, T, ...
  for (int64_t j = 0; j < rows; ++j) lengths.push_back(static_cast<int32_t>(p.t - j % (p.t + 1)));
  const auto reverse = std::make_unique<bool[]>(static_cast<size_t>(p.n));
  for (int64_t n = 0; n < p.n; ++n) reverse[n] = n % 2 == 1;
  p.w_hh = w_hh.data();
  std::vector<const void*> peepholes, biases;
  for (int64_t j = 0; j < 3 * p.n; ++j) {
    peepholes.push_back(peephole.data() + static_cast<size_t>(j * p.h) * sizeof(float));
  }
  for (int64_t n = 0; n < p.n; ++n) {
    biases.push_back(bias.data() + static_cast<size_t>(n * 4 * p.h) * sizeof(float));
  }
  p.peephole = peepholes.data();
  p.c0 = c0.data();
  p.lengths = lengths.data();
  p.reverse = reverse.get();

  Bytes h(grad_h.size()), h_n(h0.size()), c_n(c0.size());
  Bytes gates(gates_x.size()), c(static_cast<size_t>(frames * p.h) * sizeof(float));
  Bytes forward_space(kernels().workspace_bytes(p, false) + 64, '\xff');
  p.workspace = aligned(forward_space);
  lstmrep::CpuForwardArgs args = {};
  args.p = p;
  args.gates_x = p.i ? nullptr : gates_x.data();
  args.x = p.i ? x.data() : nullptr;
  args.x_n = p.t * p.b * p.i;
  args.x_t = p.b * p.i;
  args.x_b = p.i;
  args.w_ih = w_hh.data() + p.n;  // behind the recurrent ones
  args.bias = biases.data();
  args.bias_parts = 1;
  args.h0 = h0.data();
  args.h = h.data();
  args.h_n = h_n.data();
  args.c_n = c_n.data();
  args.gates = gates.data();
  args.c = c.data();
  kernels().forward(args);

  Bytes d_gates(gates.size()), d_h0(h0.size()), d_c0(c0.size());
  Bytes d_bias(bias.size()), d_peephole(peephole.size());
  std::vector<void*> d_peepholes;
  for (int64_t j = 0; j < 3 * p.n; ++j) {
    d_peepholes.push_back(d_peephole.data() + static_cast<size_t>(j * p.h) * sizeof(float));
  }
  Bytes backward_space(kernels().workspace_bytes(p, true) + 64, '\xff');
  p.workspace = aligned(backward_space);
  kernels().backward({p, gates.data(), c.data(), grad_h.data(), grad_h_n.data(), grad_c_n.data(),
                      d_gates.data(), d_h0.data(), d_c0.data(), d_bias.data(), d_peepholes.data()});

  uint64_t sum = 14695981039346656037u;
  for (const Bytes* out :
       {&h, &h_n, &c_n, &gates, &c, &d_gates, &d_h0, &d_c0, &d_bias, &d_peephole})
    sum = checksum(sum, *out);
  if (p.i) sum = gradients(sum, args, d_gates);
  return sum;
}

}  // namespace
}  // namespace lstmrep

int main(int count, char** words) {
  if (count != 12) return 2;
  std::vector<int> numbers;
  for (int j = 1; j < count; ++j) numbers.push_back(atoi(words[j]));
  lstmrep::CpuProblem p = {};
  p.dtype = static_cast<lstmrep::DType>(numbers[0]);
  p.n = numbers[1];
  p.t = numbers[2];
  p.b = numbers[3];
  p.h = numbers[4];
  p.packed = numbers[5] != 0;
  p.by_rows = numbers[6] != 0;
  p.i = numbers[7];
  p.threads = numbers[8];
  granted = static_cast<unsigned>(numbers[9]);
  planted_fault = numbers[10];
  printf("%016llx\n", static_cast<unsigned long long>(lstmrep::run(p)));
  return 0;
}
