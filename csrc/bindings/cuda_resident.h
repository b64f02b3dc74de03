// Python entries of the CTA-resident kernels: checks, builds the argument structs, releases the
// GIL.
//
// Arrays, shapes and meaning: cuda/cta_resident/config.h.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/check.h"
#include "cuda/cta_resident/launch.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline ResidentShape resident_shape(int device, int dtype, int cell, int64_t n, int64_t t,
                                    int64_t b, int64_t h, int64_t rows,
                                    const std::vector<Address>& w_hh, uint64_t reverse,
                                    bool vector_io, bool shared_start) {
  cuda_sizes(device, dtype, cell, n, kResidentRecurrences, t, 0, b, h);
  require(
      rows >= 1 && rows <= kResidentMostRows,
      "rows must be in 1.." + std::to_string(kResidentMostRows) + ", got " + std::to_string(rows));
  list_length("w_hh", w_hh.size(), n);
  for (const Address w : w_hh) not_null("w_hh", w, 1);
  return {static_cast<int32_t>(n),
          static_cast<int32_t>(t),
          static_cast<int32_t>(b),
          static_cast<int32_t>(h),
          static_cast<int32_t>(rows),
          static_cast<CellKind>(cell) == CellKind::kRelu,
          vector_io,
          shared_start && n > 1,
          reverse};
}

// Addresses of vectors, none or one for each place.
inline void resident_vectors(const char* name, const std::vector<Address>& from, int64_t count,
                             const void** to) {
  if (from.empty()) return;
  list_length(name, from.size(), count);
  for (size_t j = 0; j < from.size(); ++j) {
    not_null(name, from[j], 1);
    to[j] = pointer(from[j]);
  }
}

inline void cuda_resident_forward(int device, Address stream, int dtype, int cell, bool tf32,
                                  int64_t n, int64_t t, int64_t b, int64_t h, int64_t rows,
                                  Address gates_x, const std::vector<Address>& bias,
                                  const std::vector<Address>& w_hh,
                                  const std::vector<Address>& peephole, bool vector_io, Address h0,
                                  Address c0, bool shared_start, Address lengths, uint64_t reverse,
                                  Address h_out, Address h_n, Address c_n, Address gates,
                                  Address c) {
  ResidentForwardArgs args = {};
  args.shape =
      resident_shape(device, dtype, cell, n, t, b, h, rows, w_hh, reverse, vector_io, shared_start);
  resident_vectors("bias", bias, n, args.bias);
  resident_vectors("peephole", peephole, 3 * n, args.peephole);
  not_null("h", h_out, t * b);
  not_null("h_n", h_n, b);
  not_null("c_n", c_n, b);
  args.gates_x = pointer(gates_x);
  args.h0 = pointer(h0);
  args.c0 = pointer<const float>(c0);
  args.lengths = pointer<const int32_t>(lengths);
  args.h = pointer(h_out);
  args.h_n = pointer(h_n);
  args.c_n = pointer<float>(c_n);
  args.gates = pointer(gates);
  args.c = pointer<float>(c);
  for (int64_t j = 0; j < n; ++j) args.w_hh[j] = pointer(w_hh[j]);
  py::gil_scoped_release release;
  cuda::resident_forward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

inline void cuda_resident_backward(
    int device, Address stream, int dtype, int cell, bool tf32, int64_t n, int64_t t, int64_t b,
    int64_t h, int64_t rows, const std::vector<Address>& w_hh, const std::vector<Address>& peephole,
    bool vector_io, Address c0, bool shared_start, Address lengths, uint64_t reverse, Address gates,
    Address c, Address grad_h, Address grad_h_n, Address grad_c_n, Address d_gates, Address d_h0,
    Address d_c0, Address vectors, Address sums, Address start_parts, Address arrivals) {
  ResidentBackwardArgs args = {};
  args.shape =
      resident_shape(device, dtype, cell, n, t, b, h, rows, w_hh, reverse, vector_io, shared_start);
  resident_vectors("peephole", peephole, 3 * n, args.peephole);
  const bool starts = args.shape.shared_start && (d_h0 || d_c0);
  not_null("sums", sums, vectors ? b : 0);
  not_null("start_parts", start_parts, starts ? b : 0);
  not_null("arrivals", arrivals, vectors || starts ? b : 0);
  not_null("gates", gates, t * b);
  not_null("c", c, t * b);
  not_null("d_gates", d_gates, t * b);
  args.c0 = pointer<const float>(c0);
  args.lengths = pointer<const int32_t>(lengths);
  args.gates = pointer(gates);
  args.c = pointer<const float>(c);
  args.grad_h = pointer(grad_h);
  args.grad_h_n = pointer(grad_h_n);
  args.grad_c_n = pointer<const float>(grad_c_n);
  args.d_gates = pointer(d_gates);
  args.d_h0 = pointer(d_h0);
  args.d_c0 = pointer<float>(d_c0);
  args.vectors = pointer(vectors);
  args.sums = pointer<float>(sums);
  args.start_parts = pointer<float>(start_parts);
  args.arrivals = pointer<uint32_t>(arrivals);
  for (int64_t j = 0; j < n; ++j) args.w_hh[j] = pointer(w_hh[j]);
  py::gil_scoped_release release;
  cuda::resident_backward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

// Floats of a CTA's part of the sums.
inline int cuda_resident_sums_pitch(int h) {
  at_least("H", h, 1);
  return resident_sums_pitch(h);
}

// Dynamic shared memory of a CTA, the number that the planner forms in Python.
inline size_t cuda_resident_shared_bytes(int h, int rows, int width, bool tensor, bool backward) {
  at_least("H", h, 1);
  return resident_shared_bytes(h, rows, width, tensor, backward);
}

inline void define_cuda_resident(py::module_& m) {
  using py::arg;
  m.def("cuda_resident_forward", cuda_resident_forward, arg("device"), arg("stream"), arg("dtype"),
        arg("cell"), arg("tf32"), arg("N"), arg("T"), arg("B"), arg("H"), arg("rows"),
        arg("gates_x"), arg("bias"), arg("w_hh"), arg("peephole"), arg("vector_io"), arg("h0"),
        arg("c0"), arg("shared_start"), arg("lengths"), arg("reverse"), arg("h"), arg("h_n"),
        arg("c_n"), arg("gates"), arg("c"));
  m.def("cuda_resident_backward", cuda_resident_backward, arg("device"), arg("stream"),
        arg("dtype"), arg("cell"), arg("tf32"), arg("N"), arg("T"), arg("B"), arg("H"), arg("rows"),
        arg("w_hh"), arg("peephole"), arg("vector_io"), arg("c0"), arg("shared_start"),
        arg("lengths"), arg("reverse"), arg("gates"), arg("c"), arg("grad_h"), arg("grad_h_n"),
        arg("grad_c_n"), arg("d_gates"), arg("d_h0"), arg("d_c0"), arg("vectors"), arg("sums"),
        arg("start_parts"), arg("arrivals"));
  m.def("cuda_resident_sums_pitch", cuda_resident_sums_pitch, arg("H"));
  m.def("cuda_resident_shared_bytes", cuda_resident_shared_bytes, arg("H"), arg("rows"),
        arg("width"), arg("tensor"), arg("backward"));
}

}  // namespace bindings
}  // namespace lstmrep
