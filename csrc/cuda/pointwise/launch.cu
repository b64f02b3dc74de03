// Launches of the pointwise kernels: picks the instantiation (I/O type, cell) and the grid.
#include "cuda/launch.h"
#include "cuda/pointwise/kernel.cuh"
#include "cuda/pointwise/launch.h"

namespace lstmrep {
namespace cuda {
namespace {

// The loops are grid-stride: more blocks than this add nothing on the largest device.
constexpr int64_t kMaxBlocks = 8192;

int blocks_for(const PointwiseShape& s) {
  const int64_t elements = int64_t{s.n} * s.b * s.h;
  const int64_t blocks = (elements + kPointwiseThreads - 1) / kPointwiseThreads;
  return static_cast<int>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

template <class Args>
using Kernel = void (*)(Args);

template <class Args>
void launch_one(Counter counter, int device, void* stream, DType dtype, CellKind cell,
                const Kernel<Args> (&kernels)[3][kCells], const Args& args) {
  const int blocks = blocks_for(args.shape);
  if (blocks == 0) return;
  DeviceGuard guard(device);
  const Kernel<Args> kernel = kernels[static_cast<int>(dtype)][static_cast<int>(cell)];
  launch(counter, kernel, blocks, kPointwiseThreads, 0, stream, args);
}

}  // namespace

void pointwise_forward(int device, void* stream, DType dtype, CellKind cell,
                       const PointwiseForwardArgs& args) {
  static constexpr Kernel<PointwiseForwardArgs> kKernels[3][kCells] = {
      {pointwise_forward_kernel<float, CellKind::kTanh>,
       pointwise_forward_kernel<float, CellKind::kRelu>},
      {pointwise_forward_kernel<BFloat16, CellKind::kTanh>,
       pointwise_forward_kernel<BFloat16, CellKind::kRelu>},
      {pointwise_forward_kernel<Float16, CellKind::kTanh>,
       pointwise_forward_kernel<Float16, CellKind::kRelu>}};
  launch_one(Counter::kPointwiseForward, device, stream, dtype, cell, kKernels, args);
}

void pointwise_backward(int device, void* stream, DType dtype, CellKind cell,
                        const PointwiseBackwardArgs& args) {
  static constexpr Kernel<PointwiseBackwardArgs> kKernels[3][kCells] = {
      {pointwise_backward_kernel<float, CellKind::kTanh>,
       pointwise_backward_kernel<float, CellKind::kRelu>},
      {pointwise_backward_kernel<BFloat16, CellKind::kTanh>,
       pointwise_backward_kernel<BFloat16, CellKind::kRelu>},
      {pointwise_backward_kernel<Float16, CellKind::kTanh>,
       pointwise_backward_kernel<Float16, CellKind::kRelu>}};
  launch_one(Counter::kPointwiseBackward, device, stream, dtype, cell, kKernels, args);
}

}  // namespace cuda
}  // namespace lstmrep
