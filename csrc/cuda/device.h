// CUDA devices as the bindings see them, with or without CUDA in the build; no CUDA headers here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lstmrep {
namespace cuda {

struct Device {
  int index;
  std::string name;
  int major, minor;  // compute capability
  int sm_count;
  int64_t shared_memory_optin;  // bytes a block may have after opting in
  int64_t l2_bytes;
  int64_t total_memory;                 // bytes
  int driver_version, runtime_version;  // 1000 major + 10 minor
};

std::string status();           // empty when usable, else one sentence why not
std::vector<Device> devices();  // empty when not usable
std::string nvcc_version();     // of the build, empty without CUDA

}  // namespace cuda
}  // namespace lstmrep
