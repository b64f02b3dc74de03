// The device's functions for the cell and the losses: accurate library expf, tanhf and log1pf, no
// approximations.
#pragma once

#include <math.h>

#include "cell/lstm_cell.h"

namespace lstmrep {

struct DeviceMath {
  static LSTMREP_INLINE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
  static LSTMREP_INLINE float tanh(float x) { return tanhf(x); }
  static LSTMREP_INLINE float log1p_exp_minus_abs(float x) { return log1pf(expf(-fabsf(x))); }
  static LSTMREP_INLINE float relu(float x) { return x < 0.0f ? 0.0f : x; }
  static LSTMREP_INLINE float where_positive(float x, float y) { return x > 0.0f ? y : 0.0f; }
};

}  // namespace lstmrep
