// Argument checks of the bindings: bad codes and sizes are std::invalid_argument (ValueError in
// Python) that names the argument. Pointers come as integers; only null can be recognised.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/dtype.h"

namespace lstmrep {
namespace bindings {

using Address = std::uintptr_t;

template <class E = void>
E* pointer(Address address) {
  return reinterpret_cast<E*>(address);
}

[[noreturn]] inline void refuse(const std::string& message) {
  throw std::invalid_argument(message);
}

// For messages that are there anyhow; the checks below form theirs only where one fails.
inline void require(bool good, const char* message) {
  if (!good) refuse(message);
}

inline void at_least(const char* name, int64_t value, int64_t least) {
  if (value >= least) return;
  refuse(std::string(name) + " must be at least " + std::to_string(least) + ", got " +
         std::to_string(value));
}

inline void code(const char* name, int value, int count) {
  if (value >= 0 && value < count) return;
  refuse(std::string(name) + " must be a code in 0.." + std::to_string(count - 1) + ", got " +
         std::to_string(value));
}

// An empty array may have a null address.
inline void not_null(const char* name, Address address, int64_t elements) {
  if (address == 0 && elements != 0) refuse(std::string(name) + " must not be null");
}

inline void list_length(const char* name, size_t length, int64_t n) {
  if (static_cast<int64_t>(length) == n) return;
  refuse(std::string(name) + " must have N = " + std::to_string(n) + " entries, got " +
         std::to_string(length));
}

// What every CUDA entry is told first. Sizes up to 2^24, so that products of two cannot overflow.
inline void cuda_sizes(int device, int dtype, int cell, int64_t n, int64_t most_n, int64_t t,
                       int64_t least_t, int64_t b, int64_t h) {
  at_least("device", device, 0);
  if (dtype < 0 || dtype > static_cast<int>(DType::kFloat16)) {
    refuse("dtype must be 0 (float32), 1 (bfloat16) or 2 (float16), got " + std::to_string(dtype));
  }
  code("cell", cell, kCells);
  at_least("N", n, 1);
  at_least("T", t, least_t);
  at_least("B", b, 0);
  at_least("H", h, 1);
  if (n > most_n) {
    refuse("N must be at most " + std::to_string(most_n) + ", got " + std::to_string(n));
  }
  constexpr int64_t kLargest = int64_t{1} << 24;
  require(t <= kLargest, "T is too large");
  require(b <= kLargest && h <= kLargest && n * b * h < (int64_t{1} << 31),
          "N * B * H must be below 2^31");
}

}  // namespace bindings
}  // namespace lstmrep
