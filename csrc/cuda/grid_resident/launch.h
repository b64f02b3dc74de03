// Host side of the grid-resident kernels: one cooperative launch a pass. No CUDA headers.
#pragma once

#include "common/dtype.h"
#include "cuda/grid_resident/config.h"

namespace lstmrep {
namespace cuda {

// stream: a cudaStream_t of the device. dtype: float32, bfloat16 or float16; tf32: float32 products
// may be rounded to TF32. Both return once the kernel is queued; failures, also of grids that
// cannot be resident on the device, are std::runtime_error in one sentence.
void grid_forward(int device, void* stream, DType dtype, bool tf32, const GridForwardArgs& args);
void grid_backward(int device, void* stream, DType dtype, bool tf32, const GridBackwardArgs& args);

}  // namespace cuda
}  // namespace lstmrep
