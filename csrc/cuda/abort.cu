// The words are made under a mutex and read without one: a word's address is set last.
#include "cuda/abort.h"

#include <atomic>
#include <mutex>

#include "cuda/launch.h"

namespace lstmrep {
namespace cuda {
namespace {

struct Word {
  std::atomic<uint32_t*> host{nullptr};
  uint32_t* device = nullptr;  // valid once host is set
};

Word words[kAbortDevices];
std::mutex making;

// A capture forbids allocations in its threads because some of them would synchronise; this one
// does not touch the stream, so it is let through.
class CaptureAllowsAllocation {
 public:
  CaptureAllowsAllocation() {
    check(cudaThreadExchangeStreamCaptureMode(&mode_), "changing the capture mode");
  }
  ~CaptureAllowsAllocation() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  CaptureAllowsAllocation(const CaptureAllowsAllocation&) = delete;
  CaptureAllowsAllocation& operator=(const CaptureAllowsAllocation&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

void make(Word& word, int device) {
  const DeviceGuard guard(device);
  const CaptureAllowsAllocation allowed;
  void *host = nullptr, *mapped = nullptr;
  check(cudaHostAlloc(&host, sizeof(uint32_t), cudaHostAllocMapped | cudaHostAllocPortable),
        "allocating a word of pinned memory");
  const cudaError_t error = cudaHostGetDevicePointer(&mapped, host, 0);
  if (error != cudaSuccess) cudaFreeHost(host);
  check(error, "mapping a word of pinned memory");
  *static_cast<uint32_t*>(host) = 0;
  word.device = static_cast<uint32_t*>(mapped);
  word.host.store(static_cast<uint32_t*>(host), std::memory_order_release);
}

}  // namespace

uint32_t* abort_word(int device) {
  if (device < 0 || device >= kAbortDevices) {
    throw std::runtime_error("lstmrep: kernels that may give up run on CUDA devices 0 to " +
                             std::to_string(kAbortDevices - 1) + ", got " + std::to_string(device));
  }
  Word& word = words[device];
  if (word.host.load(std::memory_order_acquire) == nullptr) {
    const std::lock_guard<std::mutex> lock(making);
    if (word.host.load(std::memory_order_relaxed) == nullptr) make(word, device);
  }
  return word.device;
}

uint32_t take_abort(int device) {
  if (device < 0 || device >= kAbortDevices) return 0;
  uint32_t* word = words[device].host.load(std::memory_order_acquire);
  // Looking comes first: this is on the way of every call, and an exchange would own the line.
  if (word == nullptr || __atomic_load_n(word, __ATOMIC_RELAXED) == 0) return 0;
  return __atomic_exchange_n(word, 0u, __ATOMIC_ACQ_REL);
}

std::vector<int> abort_devices() {
  std::vector<int> found;
  for (int device = 0; device < kAbortDevices; ++device) {
    if (words[device].host.load(std::memory_order_acquire) != nullptr) found.push_back(device);
  }
  return found;
}

}  // namespace cuda
}  // namespace lstmrep
