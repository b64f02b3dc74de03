// The loss of the heads' frames in one launch, and its gradient in another.
//
// Forward adds the bias to the head's numbers, reads the true frames where they lie (in either
// direction of time, batch-first or not) and sums each head's loss. Backward forms the gradient of
// the numbers from them again, with the incoming gradients read on the device, and the column sums
// that are the bias's gradient: nothing of the size of the frames is kept between the passes.
// Sums over blocks are formed by the last one to come, in a fixed order: no atomics on floats.
#pragma once

#include "cuda/frame_loss/config.h"
#include "cuda/primitives/coherent.h"
#include "cuda/primitives/convert.h"
#include "cuda/primitives/last_arrival.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/shuffle.h"

namespace lstmrep {

// Loss of a value and its derivative by the head's number.
struct FrameValue {
  float loss, d;
};

LSTMREP_DEVICE FrameValue frame_value(int kind, float z, float y) {
  if (kind == static_cast<int>(FrameKind::kBernoulli)) {
    const float positive = z < 0.0f ? 0.0f : z;
    return {positive - z * y + DeviceMath::log1p_exp_minus_abs(z), DeviceMath::sigmoid(z) - y};
  }
  const bool rectified = kind == static_cast<int>(FrameKind::kRelu);
  const float off = (rectified ? DeviceMath::relu(z) : z) - y;
  return {0.5f * off * off, rectified ? DeviceMath::where_positive(z, off) : off};
}

template <class S>
LSTMREP_DEVICE float io_or_float(const void* from, bool io, int64_t j) {
  return io ? to_float(static_cast<const S*>(from)[j]) : static_cast<const float*>(from)[j];
}

// The rows of a block, one after the other: (time, batch) of its head, and where its column's
// elements lie in z and in the frames.
struct FrameRow {
  int64_t row;  // t * B + b

  LSTMREP_DEVICE static int64_t first() {
    return int64_t{blockIdx.y} * kFrameLossRows + threadIdx.y;
  }
  LSTMREP_DEVICE static int64_t stride(const FrameLossShape& s) {
    return int64_t{s.chunks} * kFrameLossRows;
  }
  LSTMREP_DEVICE int64_t in_z(const FrameLossShape& s, int column) const {
    return (int64_t{blockIdx.z} * s.t * s.b + row) * s.d + column;
  }
  LSTMREP_DEVICE int64_t in_frames(const FrameLossShape& s, const FrameLossHead& head,
                                   int column) const {
    const uint32_t t = static_cast<uint32_t>(row) / static_cast<uint32_t>(s.b);
    return t * head.frame_step + (row - int64_t{t} * s.b) * s.row_stride + column;
  }
};

// Sum over the threads of each column, in the order of threadIdx.y; to the threads with y = 0.
LSTMREP_DEVICE float column_sum(float x) {
  float* shared = reinterpret_cast<float*>(dynamic_shared());
  __syncthreads();  // what stood there has been read
  shared[threadIdx.y * kFrameLossColumns + threadIdx.x] = x;
  __syncthreads();
  float sum = 0.0f;
  if (threadIdx.y == 0) {
    for (int y = 0; y < kFrameLossRows; ++y) sum += shared[y * kFrameLossColumns + threadIdx.x];
  }
  return sum;
}

// Sum over the block, to the threads with y = 0.
LSTMREP_DEVICE float block_sum(float x) {
  const float sum = column_sum(x);
  return threadIdx.y == 0 ? warp_sum(sum) : 0.0f;
}

template <class S>
__global__ void __launch_bounds__(kFrameLossColumns* kFrameLossRows)
    frame_loss_forward_kernel(const __grid_constant__ FrameLossForwardArgs a) {
  const FrameLossShape& s = a.shape;
  const FrameLossHead& head = a.head[blockIdx.z];
  const int column = blockIdx.x * kFrameLossColumns + threadIdx.x;
  float sum = 0.0f;
  if (column < s.d) {
    const float bias = head.bias ? io_or_float<S>(head.bias, s.vector_io, column) : 0.0f;
    const int64_t rows = int64_t{head.count} * s.b;
    for (FrameRow r = {FrameRow::first()}; r.row < rows; r.row += FrameRow::stride(s)) {
      S* z = static_cast<S*>(a.z) + r.in_z(s, column);
      const float y = io_or_float<S>(head.frames, s.frames_io, r.in_frames(s, head, column));
      const float with_bias = to_float(*z) + bias;
      *z = from_float<S>(with_bias);
      sum += frame_value(s.kind, with_bias, y).loss;
    }
  }
  sum = block_sum(sum);
  const int each = gridDim.x * gridDim.y;
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    a.parts[int64_t{blockIdx.z} * each + blockIdx.y * gridDim.x + blockIdx.x] = sum;
  }
  if (!arrives_last(a.arrivals, each * gridDim.z)) return;
  float total = 0.0f;
  for (int n = 0; n < s.n; ++n) {
    const uint32_t* parts = reinterpret_cast<const uint32_t*>(a.parts) + int64_t{n} * each;
    float part = 0.0f;
    const int threads = kFrameLossColumns * kFrameLossRows;
    for (int j = threadIdx.y * kFrameLossColumns + threadIdx.x; j < each; j += threads) {
      part += word_to_float(load_coherent(parts + j));
    }
    const float loss = block_sum(part) / (static_cast<float>(a.head[n].count) * s.b);
    total += a.head[n].weight * loss;
    if (threadIdx.x == 0 && threadIdx.y == 0) a.losses[n] = loss;
  }
  if (threadIdx.x == 0 && threadIdx.y == 0) *a.total = total;
}

template <class S>
__global__ void __launch_bounds__(kFrameLossColumns* kFrameLossRows)
    frame_loss_backward_kernel(const __grid_constant__ FrameLossBackwardArgs a) {
  const FrameLossShape& s = a.shape;
  const FrameLossHead& head = a.head[blockIdx.z];
  const int column = blockIdx.x * kFrameLossColumns + threadIdx.x;
  float grad = a.grad_total ? *a.grad_total * head.weight : 0.0f;
  if (a.grad_losses) grad += a.grad_losses[blockIdx.z];
  grad /= static_cast<float>(head.count) * s.b;
  float sum = 0.0f;
  if (column < s.d) {
    const int64_t told = int64_t{head.count} * s.b, rows = int64_t{s.t} * s.b;
    for (FrameRow r = {FrameRow::first()}; r.row < rows; r.row += FrameRow::stride(s)) {
      const int64_t at = r.in_z(s, column);
      float d = 0.0f;
      if (r.row < told) {
        const float z = to_float(static_cast<const S*>(a.z)[at]);
        const float y = io_or_float<S>(head.frames, s.frames_io, r.in_frames(s, head, column));
        d = grad * frame_value(s.kind, z, y).d;
        if (a.grad_z) d += to_float(static_cast<const S*>(a.grad_z)[at]);
      }
      static_cast<S*>(a.d_z)[at] = from_float<S>(d);
      sum += d;
    }
  }
  if (!a.d_bias) return;
  sum = column_sum(sum);
  float* parts = a.parts + int64_t{blockIdx.z} * s.chunks * s.d;
  if (threadIdx.y == 0 && column < s.d) parts[int64_t{blockIdx.y} * s.d + column] = sum;
  if (!arrives_last(a.arrivals + blockIdx.z * gridDim.x + blockIdx.x, s.chunks)) return;
  sum = 0.0f;
  if (column < s.d) {
    for (int chunk = threadIdx.y; chunk < s.chunks; chunk += kFrameLossRows) {
      const float* part = parts + int64_t{chunk} * s.d + column;
      sum += word_to_float(load_coherent(reinterpret_cast<const uint32_t*>(part)));
    }
  }
  sum = column_sum(sum);
  if (threadIdx.y != 0 || column >= s.d) return;
  const int64_t to = int64_t{blockIdx.z} * s.d + column;
  if (s.vector_io) {
    static_cast<S*>(a.d_bias)[to] = from_float<S>(sum);
  } else {
    static_cast<float*>(a.d_bias)[to] = sum;
  }
}

}  // namespace lstmrep
