// Arguments and block size of the pointwise kernels: the cell of one step, GEMMs done by others.
//
// Plain data, passed by value. S is float, BFloat16 or Float16; the compute type is float.
//
// launch pointwise_forward_kernel, pointwise_backward_kernel:
//   grid = min(ceil_div(N * B * H, 256), 8192), 1, 1
//   block = 256, 1, 1
//   shared = 0
#pragma once

#include <stdint.h>

namespace lstmrep {

constexpr int kPointwiseThreads = 256;
constexpr int kPointwiseSums = 7;    // d_i, d_f, d_g, d_o, c' d_i, c' d_f, c d_o
constexpr int kMaxRecurrences = 64;  // bits of `reverse`

struct PointwiseShape {
  int32_t n, t, b, h;  // N * B * H < 2^31
  int32_t step;        // 0 <= step < T
  uint64_t reverse;    // bit n: recurrence n runs backwards
};

struct PointwiseForwardArgs {
  PointwiseShape shape;
  const void* gates_x;     // [N, T, B, 4H] S, may be null: zeros
  const float* recurrent;  // [N, B, 4H], h' W_hh^T, may be null: zeros
  const float* bias;       // [N, 4H], may be null
  const float* peephole;   // [N, 3, H], may be null
  const int32_t* lengths;  // [N, B], may be null: all T
  float* c_state;          // [N, B, H], in and out
  void* h_state;           // [N, B, H] S, out; unchanged for inactive rows
  void* h;                 // [N, T, B, H] S, out
  void* gates;             // [N, T, B, 4H] S, out, may be null, may be gates_x
  float* c;                // [N, T, B, H], out, may be null
};

struct PointwiseBackwardArgs {
  PointwiseShape shape;
  const float* peephole;      // [N, 3, H], may be null
  const int32_t* lengths;     // [N, B], may be null: all T
  const void* gates;          // [N, T, B, 4H] S
  const float* c;             // [N, T, B, H]
  const float* c0;            // [N, B, H], may be null: zeros
  const void* grad_h;         // [N, T, B, H] S, may be null: zeros
  const void* grad_h_n;       // [N, B, H] S, may be null: zeros
  const float* grad_c_n;      // [N, B, H], may be null: zeros
  const float* dh_recurrent;  // [N, B, H], d_{t+1} W_hh, may be null: zeros
  float* dc;                  // [N, B, H], in and out
  void* d_gates;              // [N, T, B, 4H] S, out, may be gates
  void* d_step;               // [N, B, 4H] S, out
  float* sums;                // [N, B, 7, H], added to, may be null
};

}  // namespace lstmrep
