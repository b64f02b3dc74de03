// Host side of the frame loss: one launch a pass. No CUDA headers.
#pragma once

#include "common/dtype.h"
#include "cuda/frame_loss/config.h"

namespace lstmrep {
namespace cuda {

// stream: a cudaStream_t of the device. dtype: float32, bfloat16 or float16. Both return once the
// kernel is queued; failures are std::runtime_error in one sentence.
void frame_loss_forward(int device, void* stream, DType dtype, const FrameLossForwardArgs& args);
void frame_loss_backward(int device, void* stream, DType dtype, const FrameLossBackwardArgs& args);

}  // namespace cuda
}  // namespace lstmrep
