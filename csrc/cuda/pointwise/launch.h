// Host side of the pointwise kernels: one launch each. No CUDA headers.
#pragma once

#include "cell/lstm_cell.h"
#include "common/dtype.h"
#include "cuda/pointwise/config.h"

namespace lstmrep {
namespace cuda {

// stream: a cudaStream_t of the device. dtype: float32, bfloat16 or float16. Both return once the
// kernel is queued; failures are std::runtime_error in one sentence.
void pointwise_forward(int device, void* stream, DType dtype, CellKind cell,
                       const PointwiseForwardArgs& args);
void pointwise_backward(int device, void* stream, DType dtype, CellKind cell,
                        const PointwiseBackwardArgs& args);

}  // namespace cuda
}  // namespace lstmrep
