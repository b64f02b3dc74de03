// The only place where kernels are launched: checks the launch and counts it by kernel name.
//
// Also here: the guard that every CUDA entry holds, which sets the device and restores the
// caller's, and the opt-in for more shared memory than a kernel gets unasked. Compiled against
// tests/emulator the same code launches on the emulated device.
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

// Dynamic shared memory that every kernel may use without opting in.
constexpr size_t kSharedWithoutOptin = 48 << 10;

// Queues zeros into memory of the current device; a memset, not a kernel.
inline void clear(void* to, size_t bytes, void* stream) {
  check(cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(stream)),
        "clearing scratch memory");
  count(Counter::kMemset);
}

template <class Args>
void opt_in(const std::string& name, void (*kernel)(Args), size_t shared) {
  if (shared <= kSharedWithoutOptin) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "giving " + name + " " + std::to_string(shared) + " bytes of shared memory");
}

inline cudaLaunchConfig_t launch_config(dim3 grid, dim3 block, size_t shared, void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream);
  return config;
}

// Queues kernel(args) on the stream of the current device.
template <class Args>
void launch(Counter counter, void (*kernel)(Args), dim3 grid, dim3 block, size_t shared,
            void* stream, const Args& args) {
  const std::string name = kCounterNames[static_cast<int>(counter)];
  opt_in(name, kernel, shared);
  const cudaLaunchConfig_t config = launch_config(grid, block, shared, stream);
  check(cudaLaunchKernelEx(&config, kernel, args), "launching " + name);
  count(counter);
}

// The same for a kernel whose CTAs wait for each other: all of them are resident, or none starts.
template <class Args>
void launch_together(Counter counter, void (*kernel)(Args), dim3 grid, dim3 block, size_t shared,
                     int device, void* stream, const Args& args) {
  const std::string name = kCounterNames[static_cast<int>(counter)];
  opt_in(name, kernel, shared);
  int of_one = 0, sms = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_one, kernel, static_cast<int>(block.x),
                                                      shared),
        "asking for the occupancy of " + name);
  check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device),
        "asking for the number of multiprocessors");
  const int64_t wanted = int64_t{grid.x} * grid.y * grid.z;
  if (wanted > int64_t{of_one} * sms) {
    throw std::runtime_error("lstmrep: " + name + " needs " + std::to_string(wanted) +
                             " CTAs at the same time, and the device has room for " +
                             std::to_string(int64_t{of_one} * sms));
  }
  cudaLaunchAttribute together = {};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config = launch_config(grid, block, shared, stream);
  config.attrs = &together;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, args), "launching " + name);
  count(counter);
}

}  // namespace cuda
}  // namespace lstmrep
