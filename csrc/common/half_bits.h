// bfloat16 and float16 as 16-bit patterns: scalar conversions to and from float, plain C++.
//
// Rounding is to nearest even, overflow goes to infinity, subnormals are kept, a NaN stays a NaN
// (made quiet, upper payload bits kept). No arithmetic on the 16-bit types: there is none.
// `static` on purpose: each instruction set is compiled from the same sources, and a function of
// external linkage would leave one copy, perhaps the AVX-512 one, for every caller.
#pragma once

#include <stdint.h>

namespace lstmrep {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

static inline uint32_t float_to_bits(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}

static inline float bits_to_float(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof x);
  return x;
}

static inline float bfloat16_to_float(BFloat16 x) { return bits_to_float(uint32_t{x.bits} << 16); }

static inline BFloat16 float_to_bfloat16(float x) {
  const uint32_t u = float_to_bits(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

static inline float float16_to_float(Float16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity and NaN
    const uint32_t quiet = magnitude > 0x7c00u ? 0x400000u : 0u;
    return bits_to_float(sign | 0x7f800000u | quiet | ((magnitude & 0x3ffu) << 13));
  }
  if (magnitude < 0x400u) {  // zero and subnormals: an exact product
    return bits_to_float(sign | float_to_bits(static_cast<float>(magnitude) * 0x1p-24f));
  }
  return bits_to_float(sign | ((magnitude << 13) + 0x38000000u));  // exponent bias 127 - 15
}

static inline Float16 float_to_float16(float x) {
  const uint32_t u = float_to_bits(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: 0.5 + x has ulp 2^-24, the float16 step
    half = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

}  // namespace lstmrep
