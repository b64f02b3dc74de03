// Starts a test kernel by its name on the emulated device; the last part of primitive_kernels.cu.
#pragma once

#include <map>
#include <string>

// How many bytes a thread's frames take; only the emulator has stacks of a size.
extern "C" void broken_stack(Buffers x) {
  volatile char frame[emulator::kStackBytes - 2048];
  const size_t used = threadIdx.x == x.n[0] ? sizeof frame : 1024;
  for (size_t j = 0; j < used; ++j) frame[sizeof frame - 1 - j] = static_cast<char>(j);
  words(x, 0)[threadIdx.x] = static_cast<uint32_t>(frame[sizeof frame - 1 - used / 2]);
}

namespace {

const std::map<std::string, void (*)(Buffers)> kernels = {
#define NAMED(name) {#name, name}
    NAMED(mma_bfloat16),
    NAMED(mma_float16),
    NAMED(mma_tf32),
    NAMED(ldmatrix_two),
    NAMED(ldmatrix_four),
    NAMED(ldmatrix_four_trans),
    NAMED(product),
    NAMED(product_trans),
    NAMED(round_tf32),
    NAMED(vector),
    NAMED(coherent),
    NAMED(shuffles),
    NAMED(copies_16),
    NAMED(copies_4),
    NAMED(copies_read_early),
    NAMED(copies_in_groups),
    NAMED(copies_left_pending),
    NAMED(message),
    NAMED(rounds),
    NAMED(votes),
    NAMED(swaps),
    NAMED(arrivals),
    NAMED(broken_deadlock),
    NAMED(broken_early_end),
    NAMED(broken_livelock),
    NAMED(broken_divergence),
    NAMED(broken_vote),
    NAMED(broken_shared_overrun),
    NAMED(broken_ldmatrix_place),
    NAMED(broken_copy_place),
    NAMED(broken_stack),
    NAMED(broken_ldmatrix_unsynchronized),
    NAMED(broken_copy_unsynchronized),
    NAMED(broken_copy_over_readers),
#undef NAMED
};

}  // namespace

// What went wrong, or "". size: blocks; threads in x, y; bytes of shared memory; seed.
extern "C" const char* run(const char* name, const uint32_t* size, const Buffers* buffers) {
  emulator::machine().seed = size[4];
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(size[0]);
  config.blockDim = dim3(size[1], size[2]);
  config.dynamicSmemBytes = size[3];
  cudaLaunchKernelEx(&config, kernels.at(name), *buffers);
  return emulator::machine().last_error.c_str();
}
