// The Python module lstmrep._native: build facts, launch counts, CPU and CUDA entries.
//
// Torch-free: arrays are raw addresses (0 is null), a stream is an integer. The typed signatures
// are in lstmrep/_native.pyi, the checks in bindings/cpu.h and bindings/cuda.h.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>

#include "bindings/counters.h"
#include "bindings/cpu.h"
#include "bindings/cuda.h"
#include "bindings/direct_call.h"
#include "bindings/pooled_tensor.h"
#include "common/pages.h"

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

void define_cpu(py::module_& m) {
  using py::arg;
  m.def("advise_huge_pages", advise_huge_pages, arg("address"), arg("bytes"));
  m.def("offer_pages", offer_pages, arg("address"), arg("bytes"));
  m.def("pooled_tensor", pooled_tensor, arg("dtype"), arg("sizes"));
  m.def("clear_pool", clear_pool);
  m.def("cpu_isas_built", cpu::isas_built);
  m.def("cpu_isas_usable", cpu::isas_usable);
  m.def("cpu_isa", cpu::isa);
  m.def("set_cpu_isa", cpu::set_isa, arg("name"));
  m.def("cpu_math", cpu_math, arg("name"), arg("in_ptr"), arg("out_ptr"), arg("n"));
  m.def("cpu_workspace_bytes", cpu_workspace_bytes, arg("dtype"), arg("N"), arg("T"), arg("B"),
        arg("H"), arg("I"), arg("threads"), arg("packed"), arg("by_rows"), arg("backward"));
  m.def("cpu_pack_bytes", cpu_pack_bytes, arg("dtype"), arg("H"));
  m.def("cpu_pack", cpu_pack, arg("dtype"), arg("H"), arg("w_hh"), arg("pack"));
  m.def("cpu_forward", cpu_forward, arg("dtype"), arg("cell"), arg("threads"), arg("packed"),
        arg("by_rows"), arg("N"), arg("T"), arg("B"), arg("H"), arg("I"), arg("gates_x"), arg("x"),
        arg("x_strides"), arg("w_ih"), arg("vectors_as_io"), arg("bias"), arg("w_hh"), arg("packs"),
        arg("peephole"), arg("h0"), arg("c0"), arg("lengths"), arg("reverse"), arg("h"), arg("h_n"),
        arg("c_n"), arg("gates"), arg("c"), arg("workspace"));
  m.def("cpu_backward", cpu_backward, arg("dtype"), arg("cell"), arg("threads"), arg("packed"),
        arg("by_rows"), arg("N"), arg("T"), arg("B"), arg("H"), arg("w_hh"), arg("vectors_as_io"),
        arg("peephole"), arg("c0"), arg("lengths"), arg("reverse"), arg("gates"), arg("c"),
        arg("grad_h"), arg("grad_h_n"), arg("grad_c_n"), arg("d_gates"), arg("d_h0"), arg("d_c0"),
        arg("d_bias"), arg("d_peephole"), arg("workspace"));
  m.def("cpu_gradients_workspace_bytes", cpu_gradients_workspace_bytes, arg("dtype"), arg("T"),
        arg("B"), arg("H"), arg("I"), arg("threads"), arg("input"));
  m.def("cpu_gradients", cpu_gradients, arg("dtype"), arg("T"), arg("B"), arg("H"), arg("I"),
        arg("threads"), arg("d_gates"), arg("x"), arg("x_strides"), arg("w_ih"), arg("h"),
        arg("h0"), arg("lengths"), arg("reverse"), arg("add"), arg("d_x"), arg("d_w_ih"),
        arg("d_w_hh"), arg("workspace"));
}

void define_direct(py::module_& m) {
  using py::arg;
  m.def("read_tensors_by", read_tensors_by, arg("table"), arg("tensor"), arg("parameter"));
  m.def("signature", signature, arg("tensors"));
  py::class_<DirectCall>(m, "DirectCall")
      .def(py::init<int, int, int, bool, bool, int64_t, int64_t, int64_t, int64_t, bool, int, bool,
                    bool, int, py::object, py::tuple>(),
           arg("dtype"), arg("cell"), arg("threads"), arg("packed"), arg("by_rows"), arg("T"),
           arg("B"), arg("H"), arg("I"), arg("vectors_as_io"), arg("bias_parts"), arg("peephole"),
           arg("reverse"), arg("gradients_threads"), arg("fresh"), arg("like"))
      .def_property_readonly("packed", &DirectCall::packed)
      .def_property_readonly("forward_bytes", &DirectCall::forward_bytes)
      .def_property_readonly("backward_bytes", &DirectCall::backward_bytes)
      .def("forward", &DirectCall::forward, arg("flat"), arg("training"), arg("layer"),
           arg("workspace"))
      .def("backward", &DirectCall::backward, arg("tensors"), arg("needs"), arg("d_gates"),
           arg("workspace"));
}

}  // namespace

void define(py::module_& m) {
  m.doc() = "Native kernels of lstmrep; arrays are raw addresses, checked by lstmrep.ops.";
  m.attr("version") = LSTMREP_VERSION;
  m.def("has_openmp", has_openmp);
  m.def("compiler", compiler);
  m.def("cuda_archs", cuda_archs);
  define_counters(m);
  define_cpu(m);
  define_direct(m);
  define_cuda(m);
}

}  // namespace bindings
}  // namespace lstmrep

PYBIND11_MODULE(_native, m) { lstmrep::bindings::define(m); }
