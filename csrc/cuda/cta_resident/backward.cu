// Launch of the backward kernel: picks the instantiation (operand, width).
#include "cuda/cta_resident/backward.cuh"

#include "cuda/cta_resident/launch.cuh"
#include "cuda/cta_resident/launch.h"
#include "cuda/recurrence/dispatch.cuh"

namespace lstmrep {
namespace cuda {
namespace {

template <class O>
void launch_as(int device, void* stream, const RecurrenceBackwardArgs& args) {
  ResidentKernel<RecurrenceBackwardArgs> wide = nullptr;
  if constexpr (sizeof(O) == 2) wide = resident_backward_kernel<O, true>;
  launch_resident<O>(Counter::kResidentBackward, device, stream, true,
                     resident_backward_kernel<O, false>, wide, args, args.arrivals);
}

}  // namespace

void resident_backward(int device, void* stream, DType dtype, bool tf32,
                       const RecurrenceBackwardArgs& args) {
  with_operand(dtype, tf32,
               [&](auto operand) { launch_as<decltype(operand)>(device, stream, args); });
}

}  // namespace cuda
}  // namespace lstmrep
