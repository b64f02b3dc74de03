// Counts of calls and kernel launches, by name: what tests assert to know which kernel ran.
//
// Atomics only, so that entries may be called from several host threads at once. A new kernel adds
// a Counter and its name here.
#pragma once

#include <atomic>
#include <cstdint>

namespace lstmrep {

enum class Counter : int {
  kMemset,
  kCpuForward,
  kCpuBackward,
  kCpuGradients,
  kPointwiseForward,
  kPointwiseBackward,
  kResidentForward,
  kResidentBackward,
  kGridForward,
  kGridBackward,
  kFrameLossForward,
  kFrameLossBackward
};

constexpr const char* kCounterNames[] = {
    "memset",           "cpu_forward",        "cpu_backward",
    "cpu_gradients",    "pointwise_forward",  "pointwise_backward",
    "resident_forward", "resident_backward",  "grid_forward",
    "grid_backward",    "frame_loss_forward", "frame_loss_backward"};
constexpr int kCounters = sizeof(kCounterNames) / sizeof(kCounterNames[0]);
static_assert(kCounters == static_cast<int>(Counter::kFrameLossBackward) + 1,
              "one name for each counter");

inline std::atomic<int64_t> counter_values[kCounters];

inline void count(Counter counter) {
  counter_values[static_cast<int>(counter)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace lstmrep
