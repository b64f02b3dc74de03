// The only place where kernels are launched: checks the launch and counts it by kernel name.
//
// LSTMREP_LAUNCH(Counter, kernel, grid, block, shared bytes, stream, argument struct). A kernel
// that is a template goes through a variable, because of the commas. Also here: the guard that
// every CUDA entry holds, which sets the device and restores the caller's.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "common/counters.h"

namespace lstmrep {
namespace cuda {

inline void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error("lstmrep: " + what + " failed: " + cudaGetErrorString(error) + " (" +
                           cudaGetErrorName(error) + ")");
}

class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&previous_), "asking for the current CUDA device");
    if (previous_ == device) return;
    check(cudaSetDevice(device), "selecting CUDA device " + std::to_string(device));
    changed_ = true;
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace cuda
}  // namespace lstmrep

#define LSTMREP_LAUNCH(counter, kernel, grid, block, shared, stream, args)                \
  do {                                                                                    \
    (kernel)<<<(grid), (block), (shared), (stream)>>>(args);                              \
    ::lstmrep::cuda::check(                                                               \
        cudaGetLastError(),                                                               \
        std::string("launching ") + ::lstmrep::kCounterNames[static_cast<int>(counter)]); \
    ::lstmrep::count(counter);                                                            \
  } while (false)
