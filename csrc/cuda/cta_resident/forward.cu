// Launch of the forward kernel: picks the instantiation (operand, width).
#include "cuda/cta_resident/forward.cuh"

#include "cuda/cta_resident/launch.cuh"
#include "cuda/cta_resident/launch.h"
#include "cuda/recurrence/dispatch.cuh"

namespace lstmrep {
namespace cuda {
namespace {

template <class O>
void launch_as(int device, void* stream, const RecurrenceForwardArgs& args) {
  ResidentKernel<RecurrenceForwardArgs> wide = nullptr;
  if constexpr (sizeof(O) == 2) wide = resident_forward_kernel<O, true>;
  launch_resident<O>(Counter::kResidentForward, device, stream, false,
                     resident_forward_kernel<O, false>, wide, args);
}

}  // namespace

void resident_forward(int device, void* stream, DType dtype, bool tf32,
                      const RecurrenceForwardArgs& args) {
  with_operand(dtype, tf32,
               [&](auto operand) { launch_as<decltype(operand)>(device, stream, args); });
}

}  // namespace cuda
}  // namespace lstmrep
