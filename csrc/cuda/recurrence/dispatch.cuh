// From the I/O type of a call to the operand type that its kernel is instantiated with. Host code.
#pragma once

#include "common/dtype.h"
#include "cuda/recurrence/operand.cuh"

namespace lstmrep {
namespace cuda {

// f(O()) for the operand O: tf32 says that float32 products may be rounded to TF32.
template <class F>
void with_operand(DType dtype, bool tf32, const F& f) {
  switch (dtype) {
    case DType::kBFloat16:
      return f(BFloat16());
    case DType::kFloat16:
      return f(Float16());
    default:
      return tf32 ? f(Tf32()) : f(float());
  }
}

}  // namespace cuda
}  // namespace lstmrep
