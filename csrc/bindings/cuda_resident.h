// Python entries of the CTA-resident kernels: checks, builds the argument structs, releases the
// GIL.
#pragma once

#include "bindings/cuda_recurrence.h"
#include "cuda/cta_resident/launch.h"

namespace lstmrep {
namespace bindings {

inline void cuda_resident_forward(int device, Address stream, int dtype, int cell, bool tf32,
                                  int64_t n, int64_t t, int64_t b, int64_t h, int64_t rows,
                                  Address gates_x, const std::vector<Address>& bias,
                                  const std::vector<Address>& w_hh,
                                  const std::vector<Address>& peephole, bool vector_io, Address h0,
                                  Address c0, bool shared_start, Address lengths, uint64_t reverse,
                                  Address h_out, Address h_n, Address c_n, Address gates,
                                  Address c) {
  const RecurrenceForwardArgs args =
      recurrence_forward(recurrence_shape(device, dtype, cell, n, t, b, h, rows, w_hh, reverse,
                                          vector_io, shared_start),
                         gates_x, bias, w_hh, peephole, h0, c0, lengths, h_out, h_n, c_n, gates, c);
  py::gil_scoped_release release;
  cuda::resident_forward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

inline void cuda_resident_backward(
    int device, Address stream, int dtype, int cell, bool tf32, int64_t n, int64_t t, int64_t b,
    int64_t h, int64_t rows, const std::vector<Address>& w_hh, const std::vector<Address>& peephole,
    bool vector_io, Address c0, bool shared_start, Address lengths, uint64_t reverse, Address gates,
    Address c, Address grad_h, Address grad_h_n, Address grad_c_n, Address d_gates, Address d_h0,
    Address d_c0, Address vectors, Address sums, Address start_parts, Address arrivals) {
  const RecurrenceBackwardArgs args =
      recurrence_backward(recurrence_shape(device, dtype, cell, n, t, b, h, rows, w_hh, reverse,
                                           vector_io, shared_start),
                          w_hh, peephole, c0, lengths, gates, c, grad_h, grad_h_n, grad_c_n,
                          d_gates, d_h0, d_c0, vectors, sums, start_parts, arrivals);
  py::gil_scoped_release release;
  cuda::resident_backward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

// Floats of the sums of a part of the batch.
inline int cuda_sums_pitch(int h) {
  at_least("H", h, 1);
  return sums_pitch(h);
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
  m.def("cuda_sums_pitch", cuda_sums_pitch, arg("H"));
  m.def("cuda_resident_shared_bytes", cuda_resident_shared_bytes, arg("H"), arg("rows"),
        arg("width"), arg("tensor"), arg("backward"));
}

}  // namespace bindings
}  // namespace lstmrep
