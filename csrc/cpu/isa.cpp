// The CPU kernels of one instruction set. Compiled once for each, with that set's flags and
// -DLSTMREP_ISA=<name>; see setup.py.
//
// Everything but the accessor at the end has internal linkage, and no header of the C++ library
// is included: of an inline function the linker keeps one copy for all callers, and that copy
// must not be the one compiled for AVX-512. tests/native checks the symbols of these objects.
// Contraction of a * b + c into a fused multiply-add is allowed, nothing else of fast-math is.
#include "cpu/backward.h"
#include "cpu/forward.h"
#include "cpu/gradients.h"
#include "cpu/kernels.h"

#if !defined(LSTMREP_ISA)
#error "LSTMREP_ISA must name the instruction set"
#endif

namespace lstmrep {
namespace {

template <class S>
struct Type {
  using type = S;
};

// body(Type<S>{}) for the I/O type S of a code.
template <class Body>
auto with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kBFloat16:
      return body(Type<BFloat16>{});
    case DType::kFloat16:
      return body(Type<Float16>{});
    case DType::kFloat64:
      return body(Type<double>{});
    case DType::kFloat32:
      break;
  }
  return body(Type<float>{});
}

void forward_entry(const CpuForwardArgs& args) {
  with_type(args.p.dtype, [&](auto s) { forward_of<typename decltype(s)::type>(args); });
}

void backward_entry(const CpuBackwardArgs& args) {
  with_type(args.p.dtype, [&](auto s) { backward_of<typename decltype(s)::type>(args); });
}

size_t workspace_entry(const CpuProblem& p, bool backward) {
  return with_type(p.dtype,
                   [&](auto s) { return scratch_bytes<typename decltype(s)::type>(p, backward); });
}

void gradients_entry(const CpuGradientsArgs& args) {
  with_type(args.dtype, [&](auto s) { gradients_of<typename decltype(s)::type>(args); });
}

size_t gradients_workspace_entry(const CpuGradientsArgs& args, bool input) {
  return with_type(args.dtype, [&](auto s) {
    return gradients_scratch_bytes<typename decltype(s)::type>(args, input);
  });
}

void pack_entry(DType dtype, int64_t h, const void* w_hh, void* pack) {
  with_type(dtype, [&](auto s) { pack_of<typename decltype(s)::type>(h, w_hh, pack); });
}

size_t pack_bytes_entry(DType dtype, int64_t h) {
  return with_type(dtype, [&](auto s) { return pack_bytes_of<typename decltype(s)::type>(h); });
}

constexpr CpuKernels kKernels = {
    forward_entry, backward_entry,   workspace_entry, gradients_entry, gradients_workspace_entry,
    pack_entry,    pack_bytes_entry, math_entry};

}  // namespace

#define LSTMREP_JOIN(a, b) a##b
#define LSTMREP_ACCESSOR(isa) LSTMREP_JOIN(cpu_kernels_, isa)
const CpuKernels& LSTMREP_ACCESSOR(LSTMREP_ISA)() { return kKernels; }

}  // namespace lstmrep
