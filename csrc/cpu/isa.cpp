// The CPU kernels of one instruction set. Compiled once for each, with that set's flags and
// -DLSTMREP_ISA=<name>; see setup.py.
//
// Everything but the accessor at the end has internal linkage, and no header of the C++ library
// is included: of an inline function the linker keeps one copy for all callers, and that copy
// must not be the one compiled for AVX-512. tests/native checks the symbols of these objects.
// Contraction of a * b + c into a fused multiply-add is allowed, nothing else of fast-math is.
#include "cpu/backward.h"
#include "cpu/forward.h"
#include "cpu/kernels.h"

#if !defined(LSTMREP_ISA)
#error "LSTMREP_ISA must name the instruction set"
#endif

namespace lstmrep {
namespace {

void forward_entry(const CpuForwardArgs& args) {
  switch (args.p.dtype) {
    case DType::kFloat32:
      return forward_of<float>(args);
    case DType::kBFloat16:
      return forward_of<BFloat16>(args);
    case DType::kFloat16:
      return forward_of<Float16>(args);
    case DType::kFloat64:
      return forward_of<double>(args);
  }
}

void backward_entry(const CpuBackwardArgs& args) {
  switch (args.p.dtype) {
    case DType::kFloat32:
      return backward_of<float>(args);
    case DType::kBFloat16:
      return backward_of<BFloat16>(args);
    case DType::kFloat16:
      return backward_of<Float16>(args);
    case DType::kFloat64:
      return backward_of<double>(args);
  }
}

size_t workspace_entry(const CpuProblem& p, bool backward) {
  switch (p.dtype) {
    case DType::kFloat32:
      return scratch_bytes<float>(p, backward);
    case DType::kBFloat16:
      return scratch_bytes<BFloat16>(p, backward);
    case DType::kFloat16:
      return scratch_bytes<Float16>(p, backward);
    case DType::kFloat64:
      return scratch_bytes<double>(p, backward);
  }
  return 0;
}

void pack_entry(DType dtype, int64_t h, const void* w_hh, void* pack) {
  switch (dtype) {
    case DType::kFloat32:
      return pack_of<float>(h, w_hh, pack);
    case DType::kBFloat16:
      return pack_of<BFloat16>(h, w_hh, pack);
    case DType::kFloat16:
      return pack_of<Float16>(h, w_hh, pack);
    case DType::kFloat64:
      return pack_of<double>(h, w_hh, pack);
  }
}

size_t pack_bytes_entry(DType dtype, int64_t h) {
  switch (dtype) {
    case DType::kFloat32:
      return pack_bytes_of<float>(h);
    case DType::kBFloat16:
      return pack_bytes_of<BFloat16>(h);
    case DType::kFloat16:
      return pack_bytes_of<Float16>(h);
    case DType::kFloat64:
      return pack_bytes_of<double>(h);
  }
  return 0;
}

constexpr CpuKernels kKernels = {forward_entry, backward_entry,   workspace_entry,
                                 pack_entry,    pack_bytes_entry, math_entry};

}  // namespace

#define LSTMREP_JOIN(a, b) a##b
#define LSTMREP_ACCESSOR(isa) LSTMREP_JOIN(cpu_kernels_, isa)
const CpuKernels& LSTMREP_ACCESSOR(LSTMREP_ISA)() { return kKernels; }

}  // namespace lstmrep
