// Just enough of CUDA's language for a kernel that uses no barrier and no shared memory to compile
// as plain C++ and to run one thread after the other. Included before the kernel's source.
#pragma once

#include <math.h>
#include <stdint.h>

#define __global__
#define __launch_bounds__(threads)

struct ShimIndex {
  unsigned x, y, z;
};

static thread_local ShimIndex blockIdx, threadIdx;
static thread_local ShimIndex blockDim, gridDim;

// Calls kernel(args) for each thread of a one-dimensional grid.
template <class Args>
void shim_launch(void (*kernel)(Args), unsigned blocks, unsigned threads, const Args& args) {
  gridDim = {blocks, 1, 1};
  blockDim = {threads, 1, 1};
  for (unsigned block = 0; block < blocks; ++block) {
    for (unsigned thread = 0; thread < threads; ++thread) {
      blockIdx = {block, 0, 0};
      threadIdx = {thread, 0, 0};
      kernel(args);
    }
  }
}
