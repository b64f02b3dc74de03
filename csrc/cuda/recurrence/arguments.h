// Arguments of the kernels that run a whole sequence in one launch. Plain data, passed by value.
//
// S is the I/O type: float, BFloat16 or Float16. Arrays that may be null say so.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cell/lstm_cell.h"

namespace lstmrep {

constexpr int kRecurrences = 64;    // most in a launch: pointers in w_hh, bits of reverse
constexpr int kBlockBytes = 64;     // of K in a block of an operand (operand.cuh)
constexpr int kRecurrenceSums = 7;  // of a unit: d_i, d_f, d_g, d_o, c' d_i, c' d_f, c d_o

struct RecurrenceShape {
  int32_t n, t, b, h;
  int32_t rows;          // of the batch that a part of the grid owns: a CTA, or a team of them
  int32_t relu;          // 1: the relu cell
  int32_t vector_io;     // 1: biases, peepholes and their gradients are S, not float
  int32_t shared_start;  // 1: h0, c0 and their gradients are [1, B, H], for all recurrences
  uint64_t reverse;      // bit n: recurrence n runs backwards
};

struct RecurrenceForwardArgs {
  RecurrenceShape shape;
  const void* gates_x;                     // [N, T, B, 4H] S, may be null: zeros
  const void* h0;                          // [N, B, H] S, may be null: zeros
  const float* c0;                         // [N, B, H], may be null: zeros
  const int32_t* lengths;                  // [N, B], may be null: all T
  void* h;                                 // [N, T, B, H] S, out
  void* h_n;                               // [N, B, H] S, out
  float* c_n;                              // [N, B, H], out
  void* gates;                             // [N, T, B, 4H] S, out, may be null, may be gates_x
  float* c;                                // [N, T, B, H], out, may be null
  const void* w_hh[kRecurrences];          // N of [4H, H] S
  const void* bias[kRecurrences];          // N of [4H], null: zeros
  const void* peephole[3 * kRecurrences];  // 3N of [H], null: none
};

struct RecurrenceBackwardArgs {
  RecurrenceShape shape;
  const float* c0;         // [N, B, H], may be null: zeros
  const int32_t* lengths;  // [N, B], may be null: all T
  const void* gates;       // [N, T, B, 4H] S
  const float* c;          // [N, T, B, H]
  const void* grad_h;      // [N, T, B, H] S, may be null: zeros
  const void* grad_h_n;    // [N, B, H] S, may be null: zeros
  const float* grad_c_n;   // [N, B, H], may be null: zeros
  void* d_gates;           // [N, T, B, 4H] S, out, may be gates
  void* d_h0;              // [N, B, H] S, out, may be null
  float* d_c0;             // [N, B, H], out, may be null
  void* vectors;       // [N*4H + N*3H], out, may be null: gradients of the biases, then peepholes
  float* sums;         // [N, ceil_div(B, rows), sums_pitch(H)], scratch, null as vectors
  float* start_parts;  // [2, N, B, H], scratch of d_h0 and d_c0, null without shared_start
  uint32_t* arrivals;  // counters of the kernel, null where nothing is summed over CTAs
  const void* w_hh[kRecurrences];          // N of [4H, H] S
  const void* peephole[3 * kRecurrences];  // 3N of [H], null: none
};

// Of the sums of a part of the batch: whole words of 16 bytes.
LSTMREP_INLINE constexpr int sums_pitch(int h) { return (kRecurrenceSums * h + 3) / 4 * 4; }

}  // namespace lstmrep
