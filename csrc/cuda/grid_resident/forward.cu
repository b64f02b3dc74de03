// Launch of the forward kernel: picks the instantiation (operand, tiles of a panel).
#include "cuda/grid_resident/forward.cuh"

#include "cuda/grid_resident/launch.cuh"
#include "cuda/grid_resident/launch.h"
#include "cuda/recurrence/dispatch.cuh"

namespace lstmrep {
namespace cuda {
namespace {

template <class O>
GridKernel<GridForwardArgs> kernel_of(int tiles) {
  if constexpr (sizeof(O) == 2) {
    if (tiles == 5) return grid_forward_kernel<O, 5>;
  }
  return tiles == 4 ? grid_forward_kernel<O, 4> : nullptr;
}

template <class O>
void launch_as(int device, void* stream, const GridForwardArgs& args) {
  launch_grid<O>(Counter::kGridForward, device, stream, false, kernel_of<O>(args.grid.tiles), args);
}

}  // namespace

void grid_forward(int device, void* stream, DType dtype, bool tf32, const GridForwardArgs& args) {
  with_operand(dtype, tf32,
               [&](auto operand) { launch_as<decltype(operand)>(device, stream, args); });
}

}  // namespace cuda
}  // namespace lstmrep
