// Kernels that hold one primitive each, for test_primitives.py; nvcc compiles them to PTX too.
//
// All have one signature: four buffers and six numbers. Comments say what of them a kernel uses, in
// order. On the host `run` starts a kernel by its name on the emulated device.
#include <cuda_runtime.h>

#include "cuda/primitives/async_copy.h"
#include "cuda/primitives/barrier.h"
#include "cuda/primitives/coherent.h"
#include "cuda/primitives/last_arrival.h"
#include "cuda/primitives/ldmatrix.h"
#include "cuda/primitives/mma.h"
#include "cuda/primitives/shuffle.h"
#include "cuda/primitives/vector.h"

namespace {

using namespace lstmrep;

struct Buffers {
  char* p[4];
  uint32_t n[6];
};

__device__ __forceinline__ uint32_t* words(const Buffers& x, int which) {
  return reinterpret_cast<uint32_t*>(x.p[which]);
}

__device__ __forceinline__ float* floats(const Buffers& x, int which) {
  return reinterpret_cast<float*>(x.p[which]);
}

// One warp: a [32, 4], b [32, 2], d [32, 4] words by lane; d is also the sum's start.
template <class S>
__device__ __forceinline__ void fragments(const Buffers& x) {
  uint32_t a[4], b[2];
  float d[4];
  float* out = floats(x, 2) + threadIdx.x * 4;
  for (int j = 0; j < 4; ++j) a[j] = words(x, 0)[threadIdx.x * 4 + j];
  for (int j = 0; j < 2; ++j) b[j] = words(x, 1)[threadIdx.x * 2 + j];
  for (int j = 0; j < 4; ++j) d[j] = out[j];
  mma<S>(d, a, b);
  for (int j = 0; j < 4; ++j) out[j] = d[j];
}

// Rows of 16 bytes into shared memory, `stride` bytes apart.
__device__ __forceinline__ void share_rows(const char* from, int rows, int chunks, int stride) {
  for (int j = static_cast<int>(threadIdx.x); j < rows * chunks; j += kWarp) {
    char* to = dynamic_shared() + j / chunks * stride + j % chunks * 16;
    store_words(to, load_words(from + j * 16));
  }
  __syncthreads();
}

// One warp: rows [32, 8] of 16 bits; which row each lane points at [32]; words by lane [32, 4];
// bytes that the address is off.
template <int kForm>
__device__ __forceinline__ void matrices(const Buffers& x) {
  share_rows(x.p[0], 32, 1, 16);
  const char* row = dynamic_shared() + words(x, 1)[threadIdx.x] * 16 + x.n[0];
  uint32_t r[4] = {}, pair[2];
  if (kForm == 2) {
    ldmatrix_x2(pair, row);
    r[0] = pair[0];
    r[1] = pair[1];
  }
  if (kForm == 4) ldmatrix_x4(r, row);
  if (kForm == 5) ldmatrix_x4_trans(r, row);
  for (int j = 0; j < 4; ++j) words(x, 2)[threadIdx.x * 4 + j] = r[j];
}

constexpr int kStride = 80;       // bytes of a row of 32 elements in shared memory, padded
constexpr int kTransStride = 48;  // of a row of 16
constexpr int kBytesOfB = 8 * kStride;

// One warp: D[16, 8] += A B over k = 32, bfloat16. A is [16, 32], or [32, 16] with trans; B is
// [8, 32]: its columns are rows in memory.
template <bool kTrans>
__device__ __forceinline__ void multiply(const Buffers& x) {
  const int lane = static_cast<int>(threadIdx.x), row = lane % 8, matrix = lane / 8;
  char* a_shared = dynamic_shared() + kBytesOfB;
  share_rows(x.p[1], 8, 4, kStride);
  for (int j = lane; j < 64; j += kWarp) {
    const int offset = kTrans ? j / 2 * kTransStride + j % 2 * 16 : j / 4 * kStride + j % 4 * 16;
    store_words(a_shared + offset, load_words(x.p[0] + j * 16));
  }
  __syncthreads();
  float d[4] = {};
  for (int step = 0; step < 2; ++step) {
    uint32_t a[4], b[2];
    // Matrices of A: rows 0-7 and 8-15 at the first 8 of k, then the same at the second 8.
    if (kTrans) {
      const int k = step * 16 + matrix / 2 * 8 + row;
      ldmatrix_x4_trans(a, a_shared + k * kTransStride + matrix % 2 * 16);
    } else {
      ldmatrix_x4(a, a_shared + (matrix % 2 * 8 + row) * kStride + step * 32 + matrix / 2 * 16);
    }
    ldmatrix_x2(b, dynamic_shared() + row * kStride + step * 32 + matrix % 2 * 16);
    mma<BFloat16>(d, a, b);
  }
  for (int j = 0; j < 4; ++j) {
    floats(x, 2)[(lane / 4 + j / 2 * 8) * 8 + lane % 4 * 2 + j % 2] = d[j];
  }
}

}  // namespace

#define KERNEL(name) extern "C" __global__ void name([[maybe_unused]] Buffers x)

KERNEL(mma_bfloat16) { fragments<BFloat16>(x); }
KERNEL(mma_float16) { fragments<Float16>(x); }
KERNEL(mma_tf32) { fragments<Tf32>(x); }
KERNEL(ldmatrix_two) { matrices<2>(x); }
KERNEL(ldmatrix_four) { matrices<4>(x); }
KERNEL(ldmatrix_four_trans) { matrices<5>(x); }
KERNEL(product) { multiply<false>(x); }
KERNEL(product_trans) { multiply<true>(x); }

// in [n0]; out [n0].
KERNEL(round_tf32) {
  for (uint32_t j = threadIdx.x; j < x.n[0]; j += blockDim.x) {
    floats(x, 1)[j] = round_to_tf32(floats(x, 0)[j]).value;
  }
}

// in, out, 16 bytes a thread; bytes that the load and the store are off.
KERNEL(vector) {
  store_words(x.p[1] + threadIdx.x * 16 + x.n[1], load_words(x.p[0] + threadIdx.x * 16 + x.n[0]));
}

// in [4]; out [4 + 1]; bytes that the 16-byte and the 4-byte load are off.
KERNEL(coherent) {
  store_words(x.p[1], load_words_coherent(x.p[0] + x.n[0]));
  words(x, 1)[4] = load_coherent(reinterpret_cast<const uint32_t*>(x.p[0] + 4 + x.n[1]));
}

// One warp: in [32]; sum over the warp, over the quad, value of the lane whose number differs by
// n0.
KERNEL(shuffles) {
  const float value = floats(x, 0)[threadIdx.x];
  floats(x, 1)[threadIdx.x] = warp_sum(value);
  floats(x, 2)[threadIdx.x] = quad_sum(value);
  floats(x, 3)[threadIdx.x] = from_lane_xor(value, static_cast<int>(x.n[0]));
}

// in, out, 16 (copy_16) or 4 (copy_4) bytes a thread; bytes filled; bytes that source and
// destination are off.
KERNEL(copies_16) {
  char* shared = dynamic_shared() + threadIdx.x * 16 + x.n[2];
  copy_16(shared, x.p[0] + threadIdx.x * 16 + x.n[1], x.n[0]);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  // Another thread's bytes.
  const uint32_t other = blockDim.x - 1 - threadIdx.x;
  store_words(x.p[1] + other * 16, load_words(dynamic_shared() + other * 16));
}

KERNEL(copies_4) {
  char* shared = dynamic_shared() + threadIdx.x * 4 + x.n[2];
  copy_4(shared, x.p[0] + threadIdx.x * 4 + x.n[1], x.n[0]);
  commit_copies();
  wait_copies<0>();
  words(x, 1)[threadIdx.x] = *reinterpret_cast<const uint32_t*>(shared);
}

// One thread: in [4], out [4]. The wait is forgotten until the words have been read.
KERNEL(copies_read_early) {
  copy_16(dynamic_shared(), x.p[0]);
  commit_copies();
  store_words(x.p[1], load_words(dynamic_shared()));
  wait_copies<0>();
}

// One thread: in [3]; out [3, 3], the words in shared memory when two, one, no groups may be left.
KERNEL(copies_in_groups) {
  const auto* shared = reinterpret_cast<const volatile uint32_t*>(dynamic_shared());
  for (int group = 0; group < 3; ++group) {
    copy_4(dynamic_shared() + group * 4, x.p[0] + group * 4);
    commit_copies();
  }
  wait_copies<2>();
  for (int j = 0; j < 3; ++j) words(x, 1)[j] = shared[j];
  wait_copies<1>();
  for (int j = 0; j < 3; ++j) words(x, 1)[3 + j] = shared[j];
  wait_copies<0>();
  for (int j = 0; j < 3; ++j) words(x, 1)[6 + j] = shared[j];
}

// One thread: in [4]. It ends with a copy under way.
KERNEL(copies_left_pending) {
  copy_16(dynamic_shared(), x.p[0]);
  commit_copies();
}

// Two blocks: message [4 * threads], written by block 0; flag; out [4 * threads + threads]; 0: the
// flag is added to, 1: it is stored; 1: block 1 does not wait for it.
KERNEL(message) {
  const uint32_t thread = threadIdx.x, threads = blockDim.x;
  if (blockIdx.x == 0) {
    __syncthreads();  // later than block 1, in most orders
    __syncthreads();
    for (uint32_t j = 0; j < 4; ++j) words(x, 0)[thread * 4 + j] = 1000 + thread * 4 + j;
    __syncthreads();
    if (thread == 0 && x.n[0] == 0) red_release_add(words(x, 1), 1);
    if (thread == 0 && x.n[0] == 1) st_release(words(x, 1), 1);
  } else {
    if (thread == 0 && x.n[1] == 0) {
      while (ld_acquire(words(x, 1)) == 0) {
      }
    }
    __syncthreads();
    const uint32_t other = threads - 1 - thread;
    store_words(x.p[2] + other * 16, load_words_coherent(x.p[0] + other * 16));
    words(x, 2)[4 * threads + thread] = load_coherent(words(x, 0) + 4 * thread);
  }
}

// cells [2, members * threads]; the barrier's words [2]; sums [members, threads]; rounds that ended
// well [members, threads]; rounds, start, budget in us (0: none), a block that stays away from
// round n[3] + 1 on, from n[4]; n[5]: 1 without the barrier.
KERNEL(rounds) {
  const uint32_t members = gridDim.x, threads = blockDim.x * blockDim.y;
  const uint32_t thread = threadIdx.y * blockDim.x + threadIdx.x;
  const uint32_t me = blockIdx.x * threads + thread, all = members * threads;
  const CounterBarrier barrier{words(x, 1), members, x.n[1], x.n[2] * uint64_t{1000}};
  uint32_t sum = 0, ended = 0;
  for (uint32_t round = 0; round < x.n[0]; ++round) {
    if (blockIdx.x == x.n[3] && round == x.n[4]) break;
    uint32_t* cells = words(x, 0) + round % 2 * all;
    // Not after a failure: others may still read.
    if (ended == round) cells[me] = round * 1000 + me;
    if (x.n[5] == 0 && !barrier.arrive_and_wait(round)) continue;
    ++ended;
    for (uint32_t other = 0; other < members; ++other) {
      sum += load_coherent(cells + other * threads + threads - 1 - thread);
    }
  }
  words(x, 2)[me] = sum;
  words(x, 3)[me] = ended;
}

// seen [blocks, threads]: the vote's outcome in n[0] rounds, a bit each; thread r * 7 votes in
// round r = 1, 4, 7 ...
KERNEL(votes) {
  uint32_t seen = 0;
  for (uint32_t round = 0; round < x.n[0]; ++round) {
    const bool any = __syncthreads_or(round % 3 == 1 && threadIdx.x == round * 7) != 0;
    seen |= uint32_t{any} << round;
  }
  words(x, 0)[blockIdx.x * blockDim.x + threadIdx.x] = seen;
}

// compare_and_swap: word; what was there before each of two calls [2].
KERNEL(swaps) {
  words(x, 1)[0] = compare_and_swap(words(x, 0), 7, 8);
  words(x, 1)[1] = compare_and_swap(words(x, 0), 7, 9);
}

// cells [blocks, threads]; counter; sum over all cells of each thread [threads], by the last block;
// how many blocks came last.
KERNEL(arrivals) {
  const uint32_t thread = threadIdx.x, threads = blockDim.x;
  words(x, 0)[blockIdx.x * threads + thread] = 1000 * blockIdx.x + thread;
  if (!arrives_last(words(x, 1), gridDim.x)) return;
  uint32_t sum = 0;
  for (uint32_t block = 0; block < gridDim.x; ++block) {
    sum += load_coherent(words(x, 0) + block * threads + threads - 1 - thread);
  }
  words(x, 2)[thread] = sum;
  if (thread == 0) words(x, 3)[0] += 1;
}

#include "broken_kernels.h"
#if !defined(__CUDACC__)
#include "run_kernel.h"
#endif
