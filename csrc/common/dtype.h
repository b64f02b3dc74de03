// Codes shared by the bindings, the CPU code and the CUDA code. The numbers are the Python API.
#pragma once

namespace lstmrep {

enum class DType : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3 };

constexpr int kDTypes = 4;
constexpr int kCells = 2;

}  // namespace lstmrep
