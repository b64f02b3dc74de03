// Launches of the frame loss: picks the instantiation (I/O type) and the grid.
#include "cuda/frame_loss/kernel.cuh"
#include "cuda/frame_loss/launch.h"
#include "cuda/launch.h"

namespace lstmrep {
namespace cuda {
namespace {

template <class Args>
using Kernel = void (*)(Args);

template <class Args>
void launch_one(Counter counter, int device, void* stream, DType dtype,
                const Kernel<Args> (&kernels)[3], const Args& args, size_t arrivals) {
  const FrameLossShape& s = args.shape;
  const DeviceGuard guard(device);
  const dim3 grid(frame_loss_tiles(s.d), s.chunks, s.n);
  const dim3 block(kFrameLossColumns, kFrameLossRows);
  if (args.arrivals) clear(args.arrivals, sizeof(uint32_t) * arrivals, stream);
  launch(counter, kernels[static_cast<int>(dtype)], grid, block, kFrameLossShared, stream, args);
}

}  // namespace

void frame_loss_forward(int device, void* stream, DType dtype, const FrameLossForwardArgs& args) {
  static constexpr Kernel<FrameLossForwardArgs> kKernels[3] = {frame_loss_forward_kernel<float>,
                                                               frame_loss_forward_kernel<BFloat16>,
                                                               frame_loss_forward_kernel<Float16>};
  launch_one(Counter::kFrameLossForward, device, stream, dtype, kKernels, args, 1);
}

void frame_loss_backward(int device, void* stream, DType dtype, const FrameLossBackwardArgs& args) {
  static constexpr Kernel<FrameLossBackwardArgs> kKernels[3] = {
      frame_loss_backward_kernel<float>, frame_loss_backward_kernel<BFloat16>,
      frame_loss_backward_kernel<Float16>};
  launch_one(Counter::kFrameLossBackward, device, stream, dtype, kKernels, args,
             size_t(args.shape.n) * frame_loss_tiles(args.shape.d));
}

}  // namespace cuda
}  // namespace lstmrep
