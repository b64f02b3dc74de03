// The emulated card: its properties, what the runtime remembers of kernels, and what was launched.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <map>
#include <string>
#include <vector>

#include "grid.h"

namespace emulator {

struct Card {
  std::string name = "emulated card";
  int major = 8, minor = 0;
  int sm_count = 108;
  size_t shared_optin = 163 << 10;  // dynamic shared memory that a block may have after opting in
  size_t l2_bytes = size_t{40} << 20;
};

struct LaunchRecord {
  dim3 grid, block;
  size_t shared;
};

struct Machine {
  Card card;
  unsigned seed = 0;
  std::map<const void*, size_t> opted_in;  // kernel -> dynamic shared memory it opted in for
  std::vector<LaunchRecord> launches;
  std::string last_error;  // of the last launch that failed
};

Machine& machine();

// Checks the launch against the card, then runs it; the text of what went wrong, or "".
std::string launch_kernel(const void* kernel, dim3 grid, dim3 block, size_t shared,
                          const std::function<void()>& body);

}  // namespace emulator
