// Device query: whether CUDA can be used here, and what the devices are. Creates no context.
#include <cuda_runtime.h>

#include "cuda/device.h"

namespace lstmrep {
namespace cuda {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int64_t attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : 0;
}

}  // namespace

std::string status() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    cudaGetLastError();
    return "no NVIDIA driver is installed on this machine.";
  }
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // the query's own error must not be reported by the next launch
  if (error == cudaErrorInsufficientDriver) {
    return "the NVIDIA driver is too old: it supports CUDA " + version_text(driver) +
           ", and lstmrep was built with CUDA " + version_text(CUDART_VERSION) +
           "; update the driver or build with an older toolkit.";
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    return "there is a driver, but no CUDA device is visible.";
  }
  if (error != cudaSuccess) {
    return std::string("asking for CUDA devices failed: ") + cudaGetErrorString(error) + ".";
  }
  return "";
}

std::vector<Device> devices() {
  std::vector<Device> found;
  if (!status().empty()) return found;
  int count = 0, driver = 0, runtime = 0;
  cudaGetDeviceCount(&count);
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    Device device;
    device.index = index;
    device.name = properties.name;
    device.major = properties.major;
    device.minor = properties.minor;
    device.sm_count = properties.multiProcessorCount;
    device.shared_memory_optin = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
    device.l2_bytes = attribute(cudaDevAttrL2CacheSize, index);
    device.total_memory = static_cast<int64_t>(properties.totalGlobalMem);
    device.driver_version = driver;
    device.runtime_version = runtime;
    found.push_back(device);
  }
  return found;
}

std::string nvcc_version() {
  return std::to_string(__CUDACC_VER_MAJOR__) + "." + std::to_string(__CUDACC_VER_MINOR__) + "." +
         std::to_string(__CUDACC_VER_BUILD__);
}

}  // namespace cuda
}  // namespace lstmrep
