// Launch checks of the emulated card. One launch at a time: host threads take turns.
#include "card.h"

#include <mutex>

namespace emulator {
namespace {

constexpr size_t kSharedWithoutOptin = 48 << 10;
constexpr unsigned kMostThreads = 1024;
constexpr unsigned kMostBlocksYZ = 65535;

std::mutex turn;

std::string refusal(const Machine& m, const void* kernel, dim3 grid, dim3 block, size_t shared) {
  if (!grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z) return "an empty grid";
  if (block.x * block.y * block.z > kMostThreads) return "more than 1024 threads a block";
  if (grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ)
    return "a grid of more than 65535 in y or z";
  const auto found = m.opted_in.find(kernel);
  const size_t allowed = found == m.opted_in.end() ? kSharedWithoutOptin : found->second;
  if (shared > allowed) {
    return std::to_string(shared) + " bytes of shared memory where " + std::to_string(allowed) +
           " are allowed";
  }
  return "";
}

}  // namespace

Machine& machine() {
  static Machine m;
  return m;
}

std::string launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared,
                          const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(turn);
  Machine& m = machine();
  std::string error = refusal(m, kernel, grid, block, shared);
  if (error.empty()) {
    m.launches.push_back({grid, block, shared});
    error = run({grid, block, shared, m.seed, &body});
  }
  m.last_error = error;
  return error;
}

}  // namespace emulator
