// Arguments and sizes of the loss of the frames that a model's heads make, and of its gradient.
//
// Plain data, passed by value. S is the I/O type: float, BFloat16 or Float16. A block has 32
// columns of D and every so many rows (time, batch) of one head; the grid depends on the sizes
// alone, so that sums have the same bits on every card.
//
// launch frame_loss_forward_kernel, frame_loss_backward_kernel:
//   grid = ceil_div(shape.d, 32), shape.chunks, N
//   block = 32, 8, 1
//   shared = 1024
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cell/lstm_cell.h"

namespace lstmrep {

constexpr int kFrameLossHeads = 8;
constexpr int kFrameLossColumns = 32;   // of a block
constexpr int kFrameLossRows = 8;       // of a block at once
constexpr int kFrameLossBlocks = 2048;  // about so many where there is work for them
constexpr int kFrameLossMostChunks = 64;
constexpr size_t kFrameLossShared = kFrameLossColumns * kFrameLossRows * sizeof(float);

// What a head's numbers mean: logits (cross-entropy), a frame, or a frame before it is rectified
// (half the squared error). "squash" is the first with other frames.
enum class FrameKind : int { kBernoulli, kGaussian, kRelu };
constexpr int kFrameKinds = 3;

LSTMREP_INLINE constexpr int frame_loss_tiles(int d) {
  return (d + kFrameLossColumns - 1) / kFrameLossColumns;
}

// Blocks along the rows of a head.
LSTMREP_INLINE constexpr int frame_loss_chunks(int64_t n, int64_t t, int64_t b, int d) {
  const int64_t of_rows = (t * b + kFrameLossRows - 1) / kFrameLossRows;
  const int64_t tiles = n * frame_loss_tiles(d);
  const int64_t wanted = (kFrameLossBlocks + tiles - 1) / tiles;
  const int64_t most = wanted < kFrameLossMostChunks ? wanted : kFrameLossMostChunks;
  const int64_t chunks = of_rows < most ? of_rows : most;
  return static_cast<int>(chunks < 1 ? 1 : chunks);
}

struct FrameLossShape {
  int32_t n, t, b, d;  // t: frames that the arrays have for each head
  int32_t chunks;      // frame_loss_chunks
  int32_t kind;        // a FrameKind
  int32_t vector_io;   // 1: biases and their gradients are S, not float
  int32_t frames_io;   // 1: frames are S, not float
  int64_t row_stride;  // elements from a frame of one sequence to that of the next
};

// Of one head: what it tells, and what that counts.
struct FrameLossHead {
  const void* bias;    // [D], may be null: zeros
  const void* frames;  // frame t of row b at frames + t * frame_step + b * row_stride
  int64_t frame_step;  // elements, negative to tell the last frame first
  int32_t count;       // frames that it tells, at most T
  float weight;        // of its loss in the total
};

struct FrameLossForwardArgs {
  FrameLossShape shape;
  FrameLossHead head[kFrameLossHeads];
  void* z;             // [N, T, B, D] S, in and out: the head's product, with its bias added
  float* parts;        // [N, chunks, tiles], scratch
  uint32_t* arrivals;  // [1], scratch
  float* losses;       // [N], out: mean over a head's frames
  float* total;        // [1], out: weighted sum
};

struct FrameLossBackwardArgs {
  FrameLossShape shape;
  FrameLossHead head[kFrameLossHeads];
  const void* z;             // [N, T, B, D] S, with the bias
  const float* grad_total;   // [1], may be null: zero
  const float* grad_losses;  // [N], may be null: zeros
  const void* grad_z;        // [N, T, B, D] S, may be null: zeros
  void* d_z;                 // [N, T, B, D] S, out; zeros beyond a head's frames
  float* parts;              // [N, chunks, D], scratch, null as d_bias
  uint32_t* arrivals;        // [N, tiles], scratch, null as d_bias
  void* d_bias;              // [N, D], out, may be null
};

}  // namespace lstmrep
