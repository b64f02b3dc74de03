// CUDA's language and the part of its runtime that csrc/cuda uses, over the emulator.
//
// Found in place of the toolkit's header of this name when a .cu file is compiled as plain C++.
// A launch runs to its end before it returns; there is one device, number 0.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "card.h"
#include "collective.h"
#include "copies.h"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __CUDACC_VER_MAJOR__ 0
#define __CUDACC_VER_MINOR__ 0
#define __CUDACC_VER_BUILD__ 0

#define CUDART_VERSION 13000

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
  cudaErrorCooperativeLaunchTooLarge = 720,
};
using cudaStream_t = struct EmulatedStream*;

enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrL2CacheSize
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeRelaxed = 2 };
constexpr unsigned cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem;
};

enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative };
union cudaLaunchAttributeValue {
  int cooperative;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

inline cudaError_t cudaDriverGetVersion(int* version) {
  return *version = CUDART_VERSION, cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

// Host and device share one memory here, and nothing captures.
inline cudaError_t cudaHostAlloc(void** host, size_t bytes, unsigned) {
  *host = malloc(bytes);
  return *host == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  return *device = host, cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* host) { return free(host), cudaSuccess; }
inline cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}

inline const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? "emulated launch" : "emulated runtime";
}

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorLaunchFailure ? ::emulator::machine().last_error.c_str()
                                         : "not a valid value or device";
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  const ::emulator::Card& card = ::emulator::machine().card;
  *properties = {};
  strncpy(properties->name, card.name.c_str(), sizeof properties->name - 1);
  properties->major = card.major;
  properties->minor = card.minor;
  properties->multiProcessorCount = card.sm_count;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  const ::emulator::Card& card = ::emulator::machine().card;
  *value = which == cudaDevAttrMultiProcessorCount ? card.sm_count
           : which == cudaDevAttrL2CacheSize       ? static_cast<int>(card.l2_bytes)
                                                   : static_cast<int>(card.shared_optin);
  return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return memset(to, value, bytes), cudaSuccess;
}

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes) {
  ::emulator::Machine& m = ::emulator::machine();
  if (bytes < 0 || static_cast<size_t>(bytes) > m.card.shared_optin) return cudaErrorInvalidValue;
  m.opted_in[reinterpret_cast<const void*>(kernel)] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

// A multiprocessor of the emulated card has room for one block.
template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*)(P...), int,
                                                          size_t shared) {
  *blocks = shared <= ::emulator::machine().card.shared_optin;
  return cudaSuccess;
}

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...),
                               A&&... arguments) {
  const dim3& g = config->gridDim;
  for (unsigned j = 0; j < config->numAttrs; ++j) {
    const bool together = config->attrs[j].val.cooperative;
    if (together && g.x * g.y * g.z > static_cast<unsigned>(::emulator::machine().card.sm_count)) {
      return cudaErrorCooperativeLaunchTooLarge;
    }
  }
  const std::string error = ::emulator::launch_kernel(
      reinterpret_cast<const void*>(kernel), config->gridDim, config->blockDim,
      config->dynamicSmemBytes, [&] { kernel(arguments...); });
  return error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
