// Kernels with one error each, which the emulator must report; part of primitive_kernels.cu.
#pragma once

// The second warp skips the block's barrier and waits for lanes of its own that never come.
KERNEL(broken_deadlock) {
  if (threadIdx.x < 32) __syncthreads();
  if (threadIdx.x >= 32 && threadIdx.x < 63) __syncwarp();
  if (threadIdx.x == 63) __syncthreads();
}

// The second warp ends while the first waits for it.
KERNEL(broken_early_end) {
  if (threadIdx.x < 32) __syncthreads();
  if (threadIdx.x >= 32)
    while (ld_acquire(words(x, 0)) != 0) break;
}

// A flag that nobody sets.
KERNEL(broken_livelock) {
  while (ld_acquire(words(x, 0)) == 0) {
  }
}

// Half a warp shuffles, the other half loads matrices.
KERNEL(broken_divergence) {
  uint32_t r[2] = {};
  if (threadIdx.x < 16) {
    ldmatrix_x2(r, dynamic_shared());
  } else {
    r[0] = static_cast<uint32_t>(warp_sum(1.0f));
  }
  words(x, 0)[threadIdx.x] = r[0] + r[1];
}

// Some threads of the block vote, the others do not.
KERNEL(broken_vote) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads_or(1);
  }
}

// Thread n[0] writes n[1] bytes after n[2] bytes of shared memory.
KERNEL(broken_shared_overrun) {
  if (threadIdx.x == x.n[0]) dynamic_shared()[x.n[2] + x.n[1]] = 1;
}

// ldmatrix of rows that are not in shared memory; all 32 lanes.
KERNEL(broken_ldmatrix_place) {
  uint32_t r[4];
  ldmatrix_x4(r, x.p[0]);
  words(x, 1)[threadIdx.x] = r[0];
}

// A copy to global memory.
KERNEL(broken_copy_place) {
  copy_16(x.p[1], x.p[0]);
  wait_copies<0>();
}

// One warp: rows in shared memory are loaded as matrices by lanes that did not write them.
KERNEL(broken_ldmatrix_unsynchronized) {
  uint32_t r[4];
  store_words(dynamic_shared() + (31 - threadIdx.x) * 16, Words{});
  ldmatrix_x4(r, dynamic_shared() + threadIdx.x * 16);
  words(x, 0)[threadIdx.x] = r[0];
}

// A thread waits for its own copy and reads another's.
KERNEL(broken_copy_unsynchronized) {
  copy_16(dynamic_shared() + threadIdx.x * 16, x.p[0] + threadIdx.x * 16);
  commit_copies();
  wait_copies<0>();
  const uint32_t other = blockDim.x - 1 - threadIdx.x;
  store_words(x.p[1] + other * 16, load_words(dynamic_shared() + other * 16));
}

// A buffer is copied into again while others may still read it.
KERNEL(broken_copy_over_readers) {
  char* mine = dynamic_shared() + threadIdx.x * 16;
  for (int step = 0; step < 2; ++step) {
    copy_16(mine, x.p[0] + threadIdx.x * 16);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    const uint32_t other = blockDim.x - 1 - threadIdx.x;
    store_words(x.p[1] + other * 16, load_words(dynamic_shared() + other * 16));
  }
}
