// Python entries of the CUDA kernels that run whole sequences: what their arguments have in common.
//
// Arrays, shapes and meaning: cuda/recurrence/arguments.h.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/check.h"
#include "cuda/recurrence/arguments.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline RecurrenceShape recurrence_shape(int device, int dtype, int cell, int64_t n, int64_t t,
                                        int64_t b, int64_t h, int64_t rows,
                                        const std::vector<Address>& w_hh, uint64_t reverse,
                                        bool vector_io, bool shared_start) {
  cuda_sizes(device, dtype, cell, n, kRecurrences, t, 0, b, h);
  at_least("rows", rows, 1);
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
inline void recurrence_vectors(const char* name, const std::vector<Address>& from, int64_t count,
                               const void** to) {
  if (from.empty()) return;
  list_length(name, from.size(), count);
  for (size_t j = 0; j < from.size(); ++j) {
    not_null(name, from[j], 1);
    to[j] = pointer(from[j]);
  }
}

inline RecurrenceForwardArgs recurrence_forward(const RecurrenceShape& shape, Address gates_x,
                                                const std::vector<Address>& bias,
                                                const std::vector<Address>& w_hh,
                                                const std::vector<Address>& peephole, Address h0,
                                                Address c0, Address lengths, Address h, Address h_n,
                                                Address c_n, Address gates, Address c) {
  RecurrenceForwardArgs args = {};
  args.shape = shape;
  recurrence_vectors("bias", bias, shape.n, args.bias);
  recurrence_vectors("peephole", peephole, int64_t{kPeepholes} * shape.n, args.peephole);
  not_null("h", h, int64_t{shape.t} * shape.b);
  not_null("h_n", h_n, shape.b);
  not_null("c_n", c_n, shape.b);
  args.gates_x = pointer(gates_x);
  args.h0 = pointer(h0);
  args.c0 = pointer<const float>(c0);
  args.lengths = pointer<const int32_t>(lengths);
  args.h = pointer(h);
  args.h_n = pointer(h_n);
  args.c_n = pointer<float>(c_n);
  args.gates = pointer(gates);
  args.c = pointer<float>(c);
  for (size_t j = 0; j < w_hh.size(); ++j) args.w_hh[j] = pointer(w_hh[j]);
  return args;
}

inline RecurrenceBackwardArgs recurrence_backward(
    const RecurrenceShape& shape, const std::vector<Address>& w_hh,
    const std::vector<Address>& peephole, Address c0, Address lengths, Address gates, Address c,
    Address grad_h, Address grad_h_n, Address grad_c_n, Address d_gates, Address d_h0, Address d_c0,
    Address vectors, Address sums, Address start_parts, Address arrivals) {
  RecurrenceBackwardArgs args = {};
  args.shape = shape;
  recurrence_vectors("peephole", peephole, int64_t{kPeepholes} * shape.n, args.peephole);
  const bool starts = shape.shared_start && (d_h0 || d_c0);
  not_null("sums", sums, vectors ? shape.b : 0);
  not_null("start_parts", start_parts, starts ? shape.b : 0);
  not_null("arrivals", arrivals, vectors || starts ? shape.b : 0);
  const int64_t frames = int64_t{shape.t} * shape.b;
  not_null("gates", gates, frames);
  not_null("c", c, frames);
  not_null("d_gates", d_gates, frames);
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
  for (size_t j = 0; j < w_hh.size(); ++j) args.w_hh[j] = pointer(w_hh[j]);
  return args;
}

}  // namespace bindings
}  // namespace lstmrep
