// Sizes, launch rule and arguments of the CTA-resident recurrence.
//
// One CTA owns a few rows of one recurrence for the whole sequence and holds all of W_hh. Plain
// data, passed by value. S is the I/O type: float, BFloat16 or Float16. O is the operand of the
// products: S itself, or Tf32 for float where TF32 is allowed.
//
// launch resident_forward_kernel<BFloat16>, resident_forward_kernel<Float16>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 32) - (2 if H > 128 else 4)) * 4096 * ceil_div(H, 16)
//     + 128 * (2 if shape.rows <= 2 else 4) * (ceil_div(H, 32) | 1)
// launch resident_forward_kernel<Tf32>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 16) - 4) * 4096 * ceil_div(H, 16)
//     + 128 * (2 if shape.rows <= 2 else 4) * (ceil_div(H, 16) | 1)
// launch resident_forward_kernel<float>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 16) - 3) * 4096 * ceil_div(H, 16) + 512 * ceil_div(H, 16)
// launch resident_backward_kernel<BFloat16>, resident_backward_kernel<Float16>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 32) - (1 if H > 128 else 4)) * 4096 * ceil_div(H, 16)
//     + 128 * (2 if shape.rows <= 2 else 4) * (4 * ceil_div(H, 32) + 1)
// launch resident_backward_kernel<Tf32>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 16) - 4) * 4096 * ceil_div(H, 16)
//     + 128 * (2 if shape.rows <= 2 else 4) * (4 * ceil_div(H, 16) + 1)
// launch resident_backward_kernel<float>:
//   grid = ceil_div(B, shape.rows), N, 1
//   block = 32 * ceil_div(H, 16), 1, 1
//   shared = max(0, ceil_div(H, 16) - 3) * 4096 * ceil_div(H, 16) + 2048 * ceil_div(H, 16)
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cell/lstm_cell.h"

namespace lstmrep {

constexpr int kResidentRecurrences = 64;  // pointers in w_hh, bits of reverse
constexpr int kResidentUnits = 16;        // hidden units of a warp: the rows of an mma tile
constexpr int kResidentBlockBytes = 64;   // of K in a block: two mma steps, 16 bytes a lane

// Two widths: up to 8 warps of at most 255 registers, or up to 12 of at most 168. Operands of four
// bytes have no wide form: from 9 warps on no card's shared memory holds the rest of W_hh.
constexpr int kResidentNarrowWarps = 8;
constexpr int kResidentWideWarps = 12;

LSTMREP_INLINE constexpr int resident_most_warps(bool wide) {
  return wide ? kResidentWideWarps : kResidentNarrowWarps;
}

// Blocks of K whose weights stay in registers: 32 registers each.
LSTMREP_INLINE constexpr int resident_held(bool tensor, bool wide, bool backward) {
  if (wide) return backward ? 1 : 2;
  return tensor ? 4 : 3;
}

// Rows that a CTA can have. Eight would fill the columns of an mma tile, but a lane's part of them
// does not fit beside the weights (up to 68 bytes of spills on sm_90 and later).
constexpr int kResidentMostRows = 4;

// Elements of the cell that a lane may own, and rows as the kernel lays them out (element.cuh).
constexpr int kResidentSlots = 2;
LSTMREP_INLINE constexpr int resident_pattern(int rows) { return rows <= 2 ? 2 : 4; }

struct ResidentSizes {
  int warps;
  int blocks;      // of K, for one gate
  int padded;      // H in whole blocks
  int pitch;       // bytes from one row of an operand to the next, tensor cores only
  size_t operand;  // bytes of one operand buffer
  size_t weights;  // bytes of W_hh in shared memory
};

// width: bytes of O. In the backward pass K runs over the four gates.
LSTMREP_INLINE constexpr ResidentSizes resident_sizes(int h, int rows, int width, bool tensor,
                                                      bool backward) {
  ResidentSizes s = {};
  const int block = kResidentBlockBytes / width;
  s.warps = (h + kResidentUnits - 1) / kResidentUnits;
  s.blocks = (h + block - 1) / block;
  s.padded = s.blocks * block;
  const int of_operand = s.blocks * (backward ? kGates : 1);
  // Two rows apart by 64 bytes modulo 128: the 16-byte loads of 8 lanes fall into all banks.
  s.pitch = kResidentBlockBytes * (of_operand | 1);
  s.operand = tensor ? size_t(s.pitch) * resident_pattern(rows)
                     : size_t(of_operand) * block * kResidentMostRows * sizeof(float);
  const int held = resident_held(tensor, s.warps > kResidentNarrowWarps, backward);
  const int rest = s.blocks > held ? s.blocks - held : 0;
  s.weights = size_t(rest) * kGates * 2 * 512 * s.warps;
  return s;
}

// Dynamic shared memory of a CTA: what W_hh has there, and two operand buffers.
LSTMREP_INLINE constexpr size_t resident_shared_bytes(int h, int rows, int width, bool tensor,
                                                      bool backward) {
  const ResidentSizes s = resident_sizes(h, rows, width, tensor, backward);
  return s.weights + 2 * s.operand;
}

struct ResidentShape {
  int32_t n, t, b, h;
  int32_t rows;          // rows of a CTA, at most kResidentMostRows
  int32_t relu;          // 1: the relu cell
  int32_t vector_io;     // 1: biases, peepholes and their gradients are S, not float
  int32_t shared_start;  // 1: h0, c0 and their gradients are [1, B, H], for all recurrences
  uint64_t reverse;      // bit n: recurrence n runs backwards
};

struct ResidentForwardArgs {
  ResidentShape shape;
  const void* gates_x;                     // [N, T, B, 4H] S, may be null: zeros
  const void* h0;                          // [N, B, H] S, may be null: zeros
  const float* c0;                         // [N, B, H], may be null: zeros
  const int32_t* lengths;                  // [N, B], may be null: all T
  void* h;                                 // [N, T, B, H] S, out
  void* h_n;                               // [N, B, H] S, out
  float* c_n;                              // [N, B, H], out
  void* gates;                             // [N, T, B, 4H] S, out, may be null, may be gates_x
  float* c;                                // [N, T, B, H], out, may be null
  const void* w_hh[kResidentRecurrences];  // N of [4H, H] S
  const void* bias[kResidentRecurrences];  // N of [4H], null: zeros
  const void* peephole[3 * kResidentRecurrences];  // 3N of [H], null: none
};

struct ResidentBackwardArgs {
  ResidentShape shape;
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
  float* sums;         // [N, ceil_div(B, rows), resident_sums_pitch(H)], scratch, null as vectors
  float* start_parts;  // [2, N, B, H], scratch of d_h0 and d_c0, null without shared_start
  uint32_t* arrivals;  // [ceil_div(B, rows) + N], scratch, null where nothing is summed
  const void* w_hh[kResidentRecurrences];          // N of [4H, H] S
  const void* peephole[3 * kResidentRecurrences];  // 3N of [H], null: none
};

constexpr int kResidentSums = 7;  // d_i, d_f, d_g, d_o, c' d_i, c' d_f, c d_o

// Of the sums of a CTA: whole words of 16 bytes.
LSTMREP_INLINE constexpr int resident_sums_pitch(int h) { return (kResidentSums * h + 3) / 4 * 4; }

}  // namespace lstmrep
