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

inline void require(bool good, const std::string& message) {
  if (!good) throw std::invalid_argument(message);
}

inline void at_least(const char* name, int64_t value, int64_t least) {
  require(value >= least, std::string(name) + " must be at least " + std::to_string(least) +
                              ", got " + std::to_string(value));
}

inline void code(const char* name, int value, int count) {
  require(value >= 0 && value < count, std::string(name) + " must be a code in 0.." +
                                           std::to_string(count - 1) + ", got " +
                                           std::to_string(value));
}

// An empty array may have a null address.
inline void not_null(const char* name, Address address, int64_t elements) {
  require(address != 0 || elements == 0, std::string(name) + " must not be null");
}

inline void list_length(const char* name, size_t length, int64_t n) {
  require(static_cast<int64_t>(length) == n, std::string(name) +
                                                 " must have N = " + std::to_string(n) +
                                                 " entries, got " + std::to_string(length));
}

}  // namespace bindings
}  // namespace lstmrep
