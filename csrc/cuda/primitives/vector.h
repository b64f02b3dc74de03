// 16 bytes at a time: four 32-bit words, as one load or store. Addresses are multiples of 16.
#pragma once

#include "cuda/primitives/convert.h"
#include "cuda/primitives/device.h"

namespace lstmrep {

struct alignas(16) Words {
  uint32_t w[4];
};

LSTMREP_DEVICE Words load_words(const void* from) {
#if defined(__CUDACC__)
  const uint4 v = *static_cast<const uint4*>(from);
  return {{v.x, v.y, v.z, v.w}};
#else
  if (reinterpret_cast<uintptr_t>(from) % 16) ::emulator::fail("a 16-byte load off its alignment");
  return *static_cast<const Words*>(from);
#endif
}

LSTMREP_DEVICE void store_words(void* to, const Words& v) {
#if defined(__CUDACC__)
  *static_cast<uint4*>(to) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
#else
  if (reinterpret_cast<uintptr_t>(to) % 16) ::emulator::fail("a 16-byte store off its alignment");
  *static_cast<Words*>(to) = v;
#endif
}

// 8 bytes: two words, as one load. The address is a multiple of 8.
struct alignas(8) WordPair {
  uint32_t w[2];
};

LSTMREP_DEVICE WordPair load_word_pair(const void* from) {
#if defined(__CUDACC__)
  const uint2 v = *static_cast<const uint2*>(from);
  return {{v.x, v.y}};
#else
  if (reinterpret_cast<uintptr_t>(from) % 8) ::emulator::fail("an 8-byte load off its alignment");
  return *static_cast<const WordPair*>(from);
#endif
}

LSTMREP_DEVICE float word_to_float(uint32_t word) {
#if defined(__CUDACC__)
  return __uint_as_float(word);
#else
  return bits_to_float(word);
#endif
}

LSTMREP_DEVICE uint32_t float_to_word(float x) {
#if defined(__CUDACC__)
  return __float_as_uint(x);
#else
  return float_to_bits(x);
#endif
}

// Elements side by side in words, the first lowest.
LSTMREP_DEVICE void pack(const float (&from)[4], Words& to) {
  LSTMREP_UNROLL
  for (int j = 0; j < 4; ++j) to.w[j] = float_to_word(from[j]);
}

template <class Half>
LSTMREP_DEVICE void pack(const Half (&from)[8], Words& to) {
  LSTMREP_UNROLL
  for (int j = 0; j < 4; ++j) {
    to.w[j] = uint32_t{from[2 * j].bits} | uint32_t{from[2 * j + 1].bits} << 16;
  }
}

}  // namespace lstmrep
