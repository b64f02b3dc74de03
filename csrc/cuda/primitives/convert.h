// float <-> I/O types in device code, with a plain C++ variant for running kernels on the host.
//
// Round to nearest even in both. The device variant uses the conversion instructions.
#pragma once

#include "cell/lstm_cell.h"
#include "common/half_bits.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace lstmrep {

LSTMREP_INLINE float to_float(float x) { return x; }

template <class S>
LSTMREP_INLINE S from_float(float x);

template <>
LSTMREP_INLINE float from_float<float>(float x) {
  return x;
}

#if defined(__CUDACC__)

LSTMREP_INLINE float to_float(BFloat16 x) { return __bfloat162float(__nv_bfloat16_raw{x.bits}); }
LSTMREP_INLINE float to_float(Float16 x) { return __half2float(__half_raw{x.bits}); }

template <>
LSTMREP_INLINE BFloat16 from_float<BFloat16>(float x) {
  return {static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x};
}

template <>
LSTMREP_INLINE Float16 from_float<Float16>(float x) {
  return {static_cast<__half_raw>(__float2half_rn(x)).x};
}

#else

LSTMREP_INLINE float to_float(BFloat16 x) { return bfloat16_to_float(x); }
LSTMREP_INLINE float to_float(Float16 x) { return float16_to_float(x); }

template <>
LSTMREP_INLINE BFloat16 from_float<BFloat16>(float x) {
  return float_to_bfloat16(x);
}

template <>
LSTMREP_INLINE Float16 from_float<Float16>(float x) {
  return float_to_float16(x);
}

#endif

}  // namespace lstmrep
