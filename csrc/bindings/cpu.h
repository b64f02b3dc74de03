// Python entries of the CPU kernels: checks, builds the argument structs, releases the GIL.
//
// Arrays, shapes and meaning: cpu/kernels.h. Nothing here knows torch or numpy.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "bindings/check.h"
#include "cpu/dispatch.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline void check_sizes(int64_t n, int64_t t, int64_t b, int64_t h) {
  at_least("N", n, 1);
  at_least("T", t, 0);
  at_least("B", b, 0);
  at_least("H", h, 1);
}

inline void check_rows(bool packed, bool by_rows, int64_t b) {
  require(packed || !by_rows, "by_rows must be false where packed is");
  if (!packed && b > kStreamRows) {
    throw std::invalid_argument("packed: false for B = " + std::to_string(b) + ", at most " +
                                std::to_string(kStreamRows) + " rows go without a pack");
  }
}

// A problem with the storage behind its arrays of N values.
struct OwnedProblem {
  CpuProblem p = {};
  std::vector<const void*> w_hh;
  std::unique_ptr<bool[]> reverse;

  OwnedProblem(int dtype, int cell, int threads, bool packed, bool by_rows, int64_t n, int64_t t,
               int64_t b, int64_t h, const std::vector<Address>& weights,
               const std::vector<bool>& reversed) {
    code("dtype", dtype, kDTypes);
    code("cell", cell, kCells);
    at_least("threads", threads, 1);
    check_sizes(n, t, b, h);
    check_rows(packed, by_rows, b);
    list_length("w_hh", weights.size(), n);
    list_length("reverse", reversed.size(), n);
    reverse = std::make_unique<bool[]>(static_cast<size_t>(n));
    for (int64_t j = 0; j < n; ++j) {
      not_null("w_hh", weights[j], h);
      w_hh.push_back(pointer(weights[j]));
      reverse[j] = reversed[j];
    }
    p.dtype = static_cast<DType>(dtype);
    p.cell = cell;
    p.threads = threads;
    p.packed = packed;
    p.by_rows = by_rows;
    p.n = n;
    p.t = t;
    p.b = b;
    p.h = h;
    p.w_hh = w_hh.data();
    p.reverse = reverse.get();
  }
};

inline size_t cpu_workspace_bytes(int dtype, int64_t n, int64_t t, int64_t b, int64_t h,
                                  int threads, bool packed, bool backward) {
  code("dtype", dtype, kDTypes);
  at_least("threads", threads, 1);
  check_sizes(n, t, b, h);
  check_rows(packed, false, b);
  CpuProblem p = {};
  p.dtype = static_cast<DType>(dtype);
  p.threads = threads;
  p.packed = packed;
  p.n = n;
  p.t = t;
  p.b = b;
  p.h = h;
  return cpu::workspace_bytes(p, backward);
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
                        int64_t t, int64_t b, int64_t h, Address gates_x, Address bias,
                        std::vector<Address> w_hh, std::vector<Address> packs, Address peephole,
                        Address h0, Address c0, Address lengths, std::vector<bool> reverse,
                        Address h_out, Address h_n, Address c_n, Address gates, Address c,
                        Address workspace) {
  OwnedProblem owned(dtype, cell, threads, packed, by_rows, n, t, b, h, w_hh, reverse);
  std::vector<const void*> kept;
  if (!packs.empty()) {
    require(packed, "packs must be empty where packed is false");
    list_length("packs", packs.size(), n);
    for (const Address pack : packs) {
      not_null("packs", pack, h);
      kept.push_back(pointer(pack));
    }
  }
  not_null("h", h_out, n * t * b);
  not_null("h_n", h_n, n * b);
  not_null("c_n", c_n, n * b);
  not_null("workspace", workspace, n * h);
  CpuForwardArgs args = {};
  args.p = owned.p;
  args.p.peephole = pointer(peephole);
  args.p.c0 = pointer(c0);
  args.p.lengths = pointer<const int32_t>(lengths);
  args.p.workspace = pointer(workspace);
  args.gates_x = pointer(gates_x);
  args.bias = pointer(bias);
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
                         Address peephole, Address c0, Address lengths, std::vector<bool> reverse,
                         Address gates, Address c, Address grad_h, Address grad_h_n,
                         Address grad_c_n, Address d_gates, Address d_h0, Address d_c0,
                         Address d_bias, Address d_peephole, Address workspace) {
  OwnedProblem owned(dtype, cell, threads, packed, by_rows, n, t, b, h, w_hh, reverse);
  not_null("gates", gates, n * t * b);
  not_null("c", c, n * t * b);
  not_null("d_gates", d_gates, n * t * b);
  not_null("workspace", workspace, n * h);
  CpuBackwardArgs args = {};
  args.p = owned.p;
  args.p.peephole = pointer(peephole);
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
  args.d_peephole = pointer(d_peephole);
  py::gil_scoped_release release;
  cpu::backward(args);
}

// A test entry: the vector functions of the chosen instruction set.
inline void cpu_math(const std::string& name, Address in_ptr, Address out_ptr, int64_t n) {
  const int f = name == "exp" ? 0 : name == "sigmoid" ? 1 : name == "tanh" ? 2 : -1;
  require(f >= 0, "name must be exp, sigmoid or tanh, got " + name);
  at_least("n", n, 0);
  not_null("in_ptr", in_ptr, n);
  not_null("out_ptr", out_ptr, n);
  py::gil_scoped_release release;
  cpu::math(f, pointer<const float>(in_ptr), pointer<float>(out_ptr), n);
}

}  // namespace bindings
}  // namespace lstmrep
