// Python entries of the CPU kernels: checks, builds the argument structs, releases the GIL.
//
// Arrays, shapes and meaning: cpu/kernels.h. Nothing here knows torch or numpy.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <vector>

#include "bindings/check.h"
#include "cpu/dispatch.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline void check_sizes(int dtype, int threads, int64_t n, int64_t t, int64_t b, int64_t h,
                        int64_t i) {
  code("dtype", dtype, kDTypes);
  at_least("threads", threads, 1);
  at_least("N", n, 1);
  at_least("T", t, 0);
  at_least("B", b, 0);
  at_least("H", h, 1);
  at_least("I", i, 0);
}

// A problem that has its sizes only.
inline CpuProblem problem_of(int dtype, int threads, bool packed, bool by_rows, int64_t n,
                             int64_t t, int64_t b, int64_t h, int64_t i) {
  check_sizes(dtype, threads, n, t, b, h, i);
  require(packed || !by_rows, "by_rows must be false where packed is");
  if (!packed && b > kStreamRows) {
    refuse("packed: false for B = " + std::to_string(b) + ", at most " +
           std::to_string(kStreamRows) + " rows go without a pack");
  }
  CpuProblem p = {};
  p.dtype = static_cast<DType>(dtype);
  p.threads = threads;
  p.packed = packed;
  p.by_rows = by_rows;
  p.n = n;
  p.t = t;
  p.b = b;
  p.h = h;
  p.i = i;
  return p;
}

// The addresses of a list of `count` arrays.
template <class Pointer = const void*>
std::vector<Pointer> pointers(const char* name, const std::vector<Address>& addresses,
                              int64_t count) {
  list_length(name, addresses.size(), count);
  std::vector<Pointer> list;
  for (const Address address : addresses) {
    not_null(name, address, 1);
    list.push_back(pointer(address));
  }
  return list;
}

// A problem with the storage behind its arrays of N values.
struct OwnedProblem {
  CpuProblem p;
  std::vector<const void*> w_hh, peephole;
  std::unique_ptr<bool[]> reverse;

  OwnedProblem(const CpuProblem& sizes, int cell, const std::vector<Address>& weights,
               bool vectors_as_io, const std::vector<Address>& peepholes,
               const std::vector<bool>& reversed)
      : p(sizes) {
    code("cell", cell, kCells);
    w_hh = pointers("w_hh", weights, p.n);
    peephole = pointers("peephole", peepholes, peepholes.empty() ? 0 : 3 * p.n);
    list_length("reverse", reversed.size(), p.n);
    reverse = std::make_unique<bool[]>(static_cast<size_t>(p.n));
    for (int64_t j = 0; j < p.n; ++j) reverse[j] = reversed[j];
    p.cell = cell;
    p.w_hh = w_hh.data();
    p.vectors_as_io = vectors_as_io;
    p.peephole = peephole.empty() ? nullptr : peephole.data();
    p.reverse = reverse.get();
  }
};

inline size_t cpu_workspace_bytes(int dtype, int64_t n, int64_t t, int64_t b, int64_t h, int64_t i,
                                  int threads, bool packed, bool by_rows, bool backward) {
  return cpu::workspace_bytes(problem_of(dtype, threads, packed, by_rows, n, t, b, h, i), backward);
}

inline size_t cpu_pack_bytes(int dtype, int64_t h) {
  code("dtype", dtype, kDTypes);
  at_least("H", h, 1);
  return cpu::pack_bytes(static_cast<DType>(dtype), h);
}

inline void cpu_pack(int dtype, int64_t h, Address w_hh, Address pack) {
  code("dtype", dtype, kDTypes);
  at_least("H", h, 1);
  not_null("w_hh", w_hh, h);
  not_null("pack", pack, h);
  py::gil_scoped_release release;
  cpu::pack(static_cast<DType>(dtype), h, pointer(w_hh), pointer(pack));
}

inline void cpu_forward(int dtype, int cell, int threads, bool packed, bool by_rows, int64_t n,
                        int64_t t, int64_t b, int64_t h, int64_t i, Address gates_x, Address x,
                        std::array<int64_t, 3> x_strides, std::vector<Address> w_ih,
                        bool vectors_as_io, std::vector<Address> bias, std::vector<Address> w_hh,
                        std::vector<Address> packs, std::vector<Address> peephole, Address h0,
                        Address c0, Address lengths, std::vector<bool> reverse, Address h_out,
                        Address h_n, Address c_n, Address gates, Address c, Address workspace) {
  OwnedProblem owned(problem_of(dtype, threads, packed, by_rows, n, t, b, h, i), cell, w_hh,
                     vectors_as_io, peephole, reverse);
  require(packed || packs.empty(), "packs must be empty where packed is false");
  const std::vector<const void*> kept = pointers("packs", packs, packs.empty() ? 0 : n);
  const std::vector<const void*> input_weights = pointers("w_ih", w_ih, i ? n : 0);
  const int parts = bias.empty() ? 0 : static_cast<int64_t>(bias.size()) > n ? 2 : 1;
  const std::vector<const void*> biases = pointers("bias", bias, parts * n);
  if (i) {
    not_null("x", x, t * b);
    require(gates_x == 0, "gates_x must be null where x is given");
  }
  not_null("h", h_out, n * t * b);
  not_null("h_n", h_n, n * b);
  not_null("c_n", c_n, n * b);
  not_null("workspace", workspace, n * h);
  CpuForwardArgs args = {};
  args.p = owned.p;
  args.p.c0 = pointer(c0);
  args.p.lengths = pointer<const int32_t>(lengths);
  args.p.workspace = pointer(workspace);
  args.gates_x = pointer(gates_x);
  args.x = pointer(x);
  args.x_n = x_strides[0];
  args.x_t = x_strides[1];
  args.x_b = x_strides[2];
  args.w_ih = input_weights.data();
  args.bias = biases.data();
  args.bias_parts = parts;
  args.h0 = pointer(h0);
  args.packs = kept.empty() ? nullptr : kept.data();
  args.h = pointer(h_out);
  args.h_n = pointer(h_n);
  args.c_n = pointer(c_n);
  args.gates = pointer(gates);
  args.c = pointer(c);
  py::gil_scoped_release release;
  cpu::forward(args);
}

inline void cpu_backward(int dtype, int cell, int threads, bool packed, bool by_rows, int64_t n,
                         int64_t t, int64_t b, int64_t h, std::vector<Address> w_hh,
                         bool vectors_as_io, std::vector<Address> peephole, Address c0,
                         Address lengths, std::vector<bool> reverse, Address gates, Address c,
                         Address grad_h, Address grad_h_n, Address grad_c_n, Address d_gates,
                         Address d_h0, Address d_c0, Address d_bias,
                         std::vector<Address> d_peephole, Address workspace) {
  OwnedProblem owned(problem_of(dtype, threads, packed, by_rows, n, t, b, h, 0), cell, w_hh,
                     vectors_as_io, peephole, reverse);
  not_null("gates", gates, n * t * b);
  not_null("c", c, n * t * b);
  not_null("d_gates", d_gates, n * t * b);
  not_null("workspace", workspace, n * h);
  const std::vector<void*> peephole_sums =
      pointers<void*>("d_peephole", d_peephole, d_peephole.empty() ? 0 : 3 * n);
  CpuBackwardArgs args = {};
  args.p = owned.p;
  args.p.c0 = pointer(c0);
  args.p.lengths = pointer<const int32_t>(lengths);
  args.p.workspace = pointer(workspace);
  args.gates = pointer(gates);
  args.c = pointer(c);
  args.grad_h = pointer(grad_h);
  args.grad_h_n = pointer(grad_h_n);
  args.grad_c_n = pointer(grad_c_n);
  args.d_gates = pointer(d_gates);
  args.d_h0 = pointer(d_h0);
  args.d_c0 = pointer(d_c0);
  args.d_bias = pointer(d_bias);
  args.d_peephole = peephole_sums.empty() ? nullptr : peephole_sums.data();
  py::gil_scoped_release release;
  cpu::backward(args);
}

inline CpuGradientsArgs gradients_sizes(int dtype, int64_t t, int64_t b, int64_t h, int64_t i,
                                        int threads) {
  check_sizes(dtype, threads, 1, t, b, h, i);
  CpuGradientsArgs args = {};
  args.dtype = static_cast<DType>(dtype);
  args.threads = threads;
  args.t = t;
  args.b = b;
  args.h = h;
  args.i = i;
  return args;
}

inline size_t cpu_gradients_workspace_bytes(int dtype, int64_t t, int64_t b, int64_t h, int64_t i,
                                            int threads, bool input) {
  return cpu::gradients_workspace_bytes(gradients_sizes(dtype, t, b, h, i, threads), input);
}

inline void cpu_gradients(int dtype, int64_t t, int64_t b, int64_t h, int64_t i, int threads,
                          Address d_gates, Address x, std::array<int64_t, 2> x_strides,
                          Address w_ih, Address h_out, Address h0, Address lengths, bool reverse,
                          bool add, Address d_x, Address d_w_ih, Address d_w_hh,
                          Address workspace) {
  CpuGradientsArgs args = gradients_sizes(dtype, t, b, h, i, threads);
  not_null("d_gates", d_gates, t * b);
  if (d_w_ih) not_null("x", x, t * b * i);
  if (d_x) not_null("w_ih", w_ih, i);
  if (d_w_hh) not_null("h", h_out, t * b);
  not_null("workspace", workspace, h);
  args.d_gates = pointer(d_gates);
  args.x = pointer(x);
  args.x_t = x_strides[0];
  args.x_b = x_strides[1];
  args.w_ih = pointer(w_ih);
  args.h_out = pointer(h_out);
  args.h0 = pointer(h0);
  args.lengths = pointer<const int32_t>(lengths);
  args.reverse = reverse;
  args.add = add;
  args.d_x = pointer(d_x);
  args.d_w_ih = pointer(d_w_ih);
  args.d_w_hh = pointer(d_w_hh);
  args.workspace = pointer(workspace);
  py::gil_scoped_release release;
  cpu::gradients(args);
}

// A test entry: the vector functions of the chosen instruction set.
inline void cpu_math(const std::string& name, Address in_ptr, Address out_ptr, int64_t n) {
  const int f = name == "sigmoid" ? 0 : name == "tanh" ? 1 : -1;
  if (f < 0) refuse("name must be sigmoid or tanh, got " + name);
  at_least("n", n, 0);
  not_null("in_ptr", in_ptr, n);
  not_null("out_ptr", out_ptr, n);
  py::gil_scoped_release release;
  cpu::math(f, pointer<const float>(in_ptr), pointer<float>(out_ptr), n);
}

}  // namespace bindings
}  // namespace lstmrep
