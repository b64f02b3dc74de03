// Launch of the backward kernel: picks the instantiation (operand, tiles of a panel).
#include "cuda/grid_resident/backward.cuh"

#include "cuda/grid_resident/launch.cuh"
#include "cuda/grid_resident/launch.h"
#include "cuda/recurrence/dispatch.cuh"

namespace lstmrep {
namespace cuda {
namespace {

template <class O>
GridKernel<GridBackwardArgs> kernel_of(int tiles) {
  if constexpr (sizeof(O) == 2) {
    if (tiles == 5) return grid_backward_kernel<O, 5>;
  }
  return tiles == 4 ? grid_backward_kernel<O, 4> : nullptr;
}

template <class O>
void launch_as(int device, void* stream, const GridBackwardArgs& args) {
  launch_grid<O>(Counter::kGridBackward, device, stream, true, kernel_of<O>(args.grid.tiles), args);
}

}  // namespace

void grid_backward(int device, void* stream, DType dtype, bool tf32, const GridBackwardArgs& args) {
  with_operand(dtype, tf32,
               [&](auto operand) { launch_as<decltype(operand)>(device, stream, args); });
}

}  // namespace cuda
}  // namespace lstmrep
