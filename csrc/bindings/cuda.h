// Python entries of the CUDA code: checks, builds the argument structs, releases the GIL.
//
// Arrays, shapes and meaning: cuda/pointwise/config.h. Nothing here knows torch.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/check.h"
#include "bindings/cuda_frame_loss.h"
#include "bindings/cuda_grid.h"
#include "bindings/cuda_resident.h"
#include "cuda/abort.h"
#include "cuda/device.h"
#include "cuda/pointwise/launch.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline py::list cuda_devices() {
  std::vector<cuda::Device> devices;
  {
    py::gil_scoped_release release;
    devices = cuda::devices();
  }
  py::list list;
  for (const cuda::Device& d : devices) {
    py::dict entry;
    entry["index"] = d.index;
    entry["name"] = d.name;
    entry["capability"] = py::make_tuple(d.major, d.minor);
    entry["sm_count"] = d.sm_count;
    entry["shared_memory_optin"] = d.shared_memory_optin;
    entry["l2_bytes"] = d.l2_bytes;
    entry["total_memory"] = d.total_memory;
    entry["driver_version"] = d.driver_version;
    entry["runtime_version"] = d.runtime_version;
    list.append(entry);
  }
  return list;
}

inline PointwiseShape pointwise_shape(int device, int dtype, int cell, int64_t n, int64_t t,
                                      int64_t b, int64_t h, int64_t step, uint64_t reverse) {
  cuda_sizes(device, dtype, cell, n, kMaxRecurrences, t, 1, b, h);
  if (step < 0 || step >= t) {
    refuse("step must be in 0..T-1, got " + std::to_string(step) +
           " with T = " + std::to_string(t));
  }
  return {static_cast<int32_t>(n), static_cast<int32_t>(t),    static_cast<int32_t>(b),
          static_cast<int32_t>(h), static_cast<int32_t>(step), reverse};
}

inline void cuda_pointwise_forward(int device, Address stream, int dtype, int cell, int64_t n,
                                   int64_t t, int64_t b, int64_t h, int64_t step, Address gates_x,
                                   Address recurrent, Address bias, Address peephole,
                                   Address lengths, uint64_t reverse, Address c_state,
                                   Address h_state, Address h_out, Address gates, Address c) {
  PointwiseForwardArgs args = {};
  args.shape = pointwise_shape(device, dtype, cell, n, t, b, h, step, reverse);
  not_null("c_state", c_state, b);
  not_null("h_state", h_state, b);
  not_null("h", h_out, b);
  args.gates_x = pointer(gates_x);
  args.recurrent = pointer<const float>(recurrent);
  args.bias = pointer<const float>(bias);
  args.peephole = pointer<const float>(peephole);
  args.lengths = pointer<const int32_t>(lengths);
  args.c_state = pointer<float>(c_state);
  args.h_state = pointer(h_state);
  args.h = pointer(h_out);
  args.gates = pointer(gates);
  args.c = pointer<float>(c);
  py::gil_scoped_release release;
  cuda::pointwise_forward(device, pointer(stream), static_cast<DType>(dtype),
                          static_cast<CellKind>(cell), args);
}

inline void cuda_pointwise_backward(int device, Address stream, int dtype, int cell, int64_t n,
                                    int64_t t, int64_t b, int64_t h, int64_t step, Address peephole,
                                    Address lengths, uint64_t reverse, Address gates, Address c,
                                    Address c0, Address grad_h, Address grad_h_n, Address grad_c_n,
                                    Address dh_recurrent, Address dc, Address d_gates,
                                    Address d_step, Address sums) {
  PointwiseBackwardArgs args = {};
  args.shape = pointwise_shape(device, dtype, cell, n, t, b, h, step, reverse);
  not_null("gates", gates, b);
  not_null("c", c, b);
  not_null("dc", dc, b);
  not_null("d_gates", d_gates, b);
  not_null("d_step", d_step, b);
  args.peephole = pointer<const float>(peephole);
  args.lengths = pointer<const int32_t>(lengths);
  args.gates = pointer(gates);
  args.c = pointer<const float>(c);
  args.c0 = pointer<const float>(c0);
  args.grad_h = pointer(grad_h);
  args.grad_h_n = pointer(grad_h_n);
  args.grad_c_n = pointer<const float>(grad_c_n);
  args.dh_recurrent = pointer<const float>(dh_recurrent);
  args.dc = pointer<float>(dc);
  args.d_gates = pointer(d_gates);
  args.d_step = pointer(d_step);
  args.sums = pointer<float>(sums);
  py::gil_scoped_release release;
  cuda::pointwise_backward(device, pointer(stream), static_cast<DType>(dtype),
                           static_cast<CellKind>(cell), args);
}

inline void define_cuda(py::module_& m) {
  using py::arg;
  m.def("cuda_built", [] { return !cuda::nvcc_version().empty(); });
  m.def("nvcc_version", cuda::nvcc_version);
  m.def("cuda_status", cuda::status, py::call_guard<py::gil_scoped_release>());
  m.def("cuda_devices", cuda_devices);
  // Reads host memory only, on the way of every call: the GIL is kept.
  m.def("cuda_take_abort", cuda::take_abort, arg("device"));
  m.def("cuda_abort_devices", cuda::abort_devices);
  define_cuda_resident(m);
  define_cuda_frame_loss(m);
  define_cuda_grid(m);
  m.def("cuda_pointwise_forward", cuda_pointwise_forward, arg("device"), arg("stream"),
        arg("dtype"), arg("cell"), arg("N"), arg("T"), arg("B"), arg("H"), arg("step"),
        arg("gates_x"), arg("recurrent"), arg("bias"), arg("peephole"), arg("lengths"),
        arg("reverse"), arg("c_state"), arg("h_state"), arg("h"), arg("gates"), arg("c"));
  m.def("cuda_pointwise_backward", cuda_pointwise_backward, arg("device"), arg("stream"),
        arg("dtype"), arg("cell"), arg("N"), arg("T"), arg("B"), arg("H"), arg("step"),
        arg("peephole"), arg("lengths"), arg("reverse"), arg("gates"), arg("c"), arg("c0"),
        arg("grad_h"), arg("grad_h_n"), arg("grad_c_n"), arg("dh_recurrent"), arg("dc"),
        arg("d_gates"), arg("d_step"), arg("sums"));
}

}  // namespace bindings
}  // namespace lstmrep
