// Sizes and launch rule of the CTA-resident recurrence; its arguments: recurrence/arguments.h.
//
// One CTA owns a few rows of one recurrence for the whole sequence and holds all of W_hh. O is the
// operand of the products: S itself, or Tf32 for float where TF32 is allowed.
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

#include "cuda/recurrence/arguments.h"

namespace lstmrep {

constexpr int kResidentUnits = 16;  // hidden units of a warp: the rows of an mma tile

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
  const int block = kBlockBytes / width;
  s.warps = (h + kResidentUnits - 1) / kResidentUnits;
  s.blocks = (h + block - 1) / block;
  s.padded = s.blocks * block;
  const int of_operand = s.blocks * (backward ? kGates : 1);
  // Two rows apart by 64 bytes modulo 128: the 16-byte loads of 8 lanes fall into all banks.
  s.pitch = kBlockBytes * (of_operand | 1);
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

}  // namespace lstmrep
