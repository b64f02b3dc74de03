// The launch rule of both passes, and the choice among a kernel's instantiations.
#pragma once

#include "cuda/cta_resident/config.h"
#include "cuda/cta_resident/operand.cuh"
#include "cuda/launch.h"

namespace lstmrep {
namespace cuda {

template <class Args>
using ResidentKernel = void (*)(Args);

// narrow, wide: instantiations for up to 8 and up to 12 warps; no wide one: null. arrivals: of the
// arguments, cleared first.
template <class O, class Args>
void launch_resident(Counter counter, int device, void* stream, bool backward,
                     ResidentKernel<Args> narrow, ResidentKernel<Args> wide, const Args& args,
                     uint32_t* arrivals = nullptr) {
  constexpr bool kTensor = OperandOf<O>::kTensor;
  const RecurrenceShape& s = args.shape;
  const ResidentSizes sizes = resident_sizes(s.h, s.rows, sizeof(O), kTensor, backward);
  const int most_warps = resident_most_warps(wide != nullptr);
  if (sizes.warps > most_warps || s.rows < 1 || s.rows > kResidentMostRows) {
    throw std::runtime_error("lstmrep: cta_resident takes H up to " +
                             std::to_string(most_warps * kResidentUnits) + " and 1 to " +
                             std::to_string(kResidentMostRows) + " rows a CTA here, got H = " +
                             std::to_string(s.h) + " and " + std::to_string(s.rows) + " rows");
  }
  if (s.b == 0) return;
  const DeviceGuard guard(device);
  const dim3 grid((s.b + s.rows - 1) / s.rows, s.n), block(sizes.warps * kWarp);
  if (arrivals) clear(arrivals, sizeof(uint32_t) * (grid.x + grid.y), stream);
  launch(counter, sizes.warps > kResidentNarrowWarps ? wide : narrow, grid, block,
         resident_shared_bytes(s.h, s.rows, sizeof(O), kTensor, backward), stream, args);
}

}  // namespace cuda
}  // namespace lstmrep
