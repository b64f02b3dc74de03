// The Python module lstmrep._native: build facts, launch counts, CPU and CUDA entries.
//
// Torch-free: arrays are raw addresses (0 is null), a stream is an integer. The typed signatures
// are in lstmrep/_native.pyi, the checks in bindings/cpu.h and bindings/cuda.h.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>

#include "bindings/cpu.h"
#include "bindings/cuda.h"
#include "common/counters.h"

#if !defined(LSTMREP_VERSION) || !defined(LSTMREP_CUDA_ARCHS)
#error "setup.py defines LSTMREP_VERSION and LSTMREP_CUDA_ARCHS"
#endif

namespace lstmrep {
namespace bindings {
namespace {

std::string compiler() {
  std::ostringstream text;
#if defined(__clang__)
  text << "clang++ " << __clang_major__ << "." << __clang_minor__ << "." << __clang_patchlevel__;
#else
  text << "g++ " << __GNUC__ << "." << __GNUC_MINOR__ << "." << __GNUC_PATCHLEVEL__;
#endif
  return text.str();
}

bool has_openmp() {
#if defined(_OPENMP)
  return true;
#else
  return false;
#endif
}

std::vector<std::string> cuda_archs() {
  std::vector<std::string> archs;
  std::istringstream text(LSTMREP_CUDA_ARCHS);
  for (std::string arch; std::getline(text, arch, ';');) archs.push_back(arch);
  return archs;
}

py::dict launch_counts() {
  py::dict counts;
  for (int j = 0; j < kCounters; ++j) counts[kCounterNames[j]] = counter_values[j].load();
  return counts;
}

void reset_launch_counts() {
  for (std::atomic<int64_t>& value : counter_values) value.store(0);
}

void define_cpu(py::module_& m) {
  using py::arg;
  m.def("cpu_isas_built", cpu::isas_built);
  m.def("cpu_isas_usable", cpu::isas_usable);
  m.def("cpu_isa", cpu::isa);
  m.def("set_cpu_isa", cpu::set_isa, arg("name"));
  m.def("cpu_math", cpu_math, arg("name"), arg("in_ptr"), arg("out_ptr"), arg("n"));
  m.def("cpu_workspace_bytes", cpu_workspace_bytes, arg("dtype"), arg("N"), arg("T"), arg("B"),
        arg("H"), arg("threads"), arg("backward"));
  m.def("cpu_forward", cpu_forward, arg("dtype"), arg("cell"), arg("threads"), arg("N"), arg("T"),
        arg("B"), arg("H"), arg("gates_x"), arg("bias"), arg("w_hh"), arg("peephole"), arg("h0"),
        arg("c0"), arg("lengths"), arg("reverse"), arg("h"), arg("h_n"), arg("c_n"), arg("gates"),
        arg("c"), arg("workspace"));
  m.def("cpu_backward", cpu_backward, arg("dtype"), arg("cell"), arg("threads"), arg("N"), arg("T"),
        arg("B"), arg("H"), arg("w_hh"), arg("peephole"), arg("c0"), arg("lengths"), arg("reverse"),
        arg("gates"), arg("c"), arg("grad_h"), arg("grad_h_n"), arg("grad_c_n"), arg("d_gates"),
        arg("d_h0"), arg("d_c0"), arg("d_bias"), arg("d_peephole"), arg("workspace"));
}

void define_cuda(py::module_& m) {
  using py::arg;
  m.def("cuda_built", [] { return !cuda::nvcc_version().empty(); });
  m.def("cuda_archs", cuda_archs);
  m.def("nvcc_version", cuda::nvcc_version);
  m.def("cuda_status", cuda::status, py::call_guard<py::gil_scoped_release>());
  m.def("cuda_devices", cuda_devices);
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

}  // namespace

void define(py::module_& m) {
  m.doc() = "Native kernels of lstmrep; arrays are raw addresses, checked by lstmrep.ops.";
  m.attr("version") = LSTMREP_VERSION;
  m.def("has_openmp", has_openmp);
  m.def("compiler", compiler);
  m.def("launch_counts", launch_counts);
  m.def("reset_launch_counts", reset_launch_counts);
  define_cpu(m);
  define_cuda(m);
}

}  // namespace bindings
}  // namespace lstmrep

PYBIND11_MODULE(_native, m) { lstmrep::bindings::define(m); }
