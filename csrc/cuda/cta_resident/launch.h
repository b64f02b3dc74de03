// Host side of the CTA-resident kernels: one launch a pass. No CUDA headers.
#pragma once

#include "common/dtype.h"
#include "cuda/cta_resident/config.h"

namespace lstmrep {
namespace cuda {

// stream: a cudaStream_t of the device. dtype: float32, bfloat16 or float16; tf32: float32 products
// may be rounded to TF32. Both return once the kernel is queued; failures, also of sizes that do
// not fit the device's shared memory, are std::runtime_error in one sentence.
void resident_forward(int device, void* stream, DType dtype, bool tf32,
                      const RecurrenceForwardArgs& args);
void resident_backward(int device, void* stream, DType dtype, bool tf32,
                       const RecurrenceBackwardArgs& args);

}  // namespace cuda
}  // namespace lstmrep
