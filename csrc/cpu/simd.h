// Vectors of one instruction set, and their conversion from and to the I/O types.
//
// Vec<float> and Vec<double> are GCC/clang vector types, kLanes<C> values long: 16 bytes for the
// baseline, 32 for AVX2, 64 for AVX-512. Io<S> says for an I/O type S which compute type C it
// has, and loads, stores and rounds. Partial loads fill with zeros, partial stores leave the rest
// of memory alone. Nothing here is visible outside the translation unit.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/half_bits.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LSTMREP_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define LSTMREP_VECTOR_BYTES 32
#else
#define LSTMREP_VECTOR_BYTES 16
#endif

#define LSTMREP_VECTOR_INLINE inline __attribute__((always_inline))

namespace lstmrep {
namespace {

template <class C>
constexpr int kLanes = LSTMREP_VECTOR_BYTES / static_cast<int>(sizeof(C));

typedef float VecF __attribute__((vector_size(LSTMREP_VECTOR_BYTES)));
typedef double VecD __attribute__((vector_size(LSTMREP_VECTOR_BYTES)));
typedef int32_t VecI __attribute__((vector_size(LSTMREP_VECTOR_BYTES)));
typedef uint32_t VecU __attribute__((vector_size(LSTMREP_VECTOR_BYTES)));
typedef uint16_t VecH __attribute__((vector_size(LSTMREP_VECTOR_BYTES / 2)));
typedef uint16_t VecW __attribute__((vector_size(LSTMREP_VECTOR_BYTES)));

template <class C>
struct VecOf;
template <>
struct VecOf<float> {
  using type = VecF;
};
template <>
struct VecOf<double> {
  using type = VecD;
};
template <class C>
using Vec = typename VecOf<C>::type;

// All lanes x. Not V{} + x: that is an addition, which must be carried out (-0.0 + 0.0 is 0.0),
// while x - 0.0 is x whatever x is, and disappears.
template <class V, class E>
LSTMREP_VECTOR_INLINE V splat(E x) {
  return x - V{};
}

// Any vector from any (unaligned) memory of the same element type.
template <class V, class E>
LSTMREP_VECTOR_INLINE V load_raw(const E* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V, class E>
LSTMREP_VECTOR_INLINE void store_raw(E* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// The first `count` elements, zeros behind them.
template <class V, class E>
LSTMREP_VECTOR_INLINE V load_first(const E* p, int64_t count) {
  if (count * static_cast<int64_t>(sizeof(E)) >= static_cast<int64_t>(sizeof(V))) {
    return load_raw<V>(p);
  }
  V v = {};
  __builtin_memcpy(&v, p, static_cast<size_t>(count) * sizeof(E));
  return v;
}

template <class V, class E>
LSTMREP_VECTOR_INLINE void store_first(E* p, V v, int64_t count) {
  if (count * static_cast<int64_t>(sizeof(E)) >= static_cast<int64_t>(sizeof(V))) {
    store_raw(p, v);
  } else {
    __builtin_memcpy(p, &v, static_cast<size_t>(count) * sizeof(E));
  }
}

// Zeros in p[first : last] (all formats have zero as zero bits).
template <class E>
void clear(E* p, int64_t first, int64_t last) {
  __builtin_memset(p + first, 0, static_cast<size_t>(last - first) * sizeof(E));
}

// Halves as words. (By intrinsics: g++ 12 makes six instructions of the conversion.)
LSTMREP_VECTOR_INLINE VecU widen_halves(VecH bits) {
#if defined(__AVX512F__)
  return (VecU)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)bits);
#elif defined(__AVX2__)
  return (VecU)_mm256_cvtepu16_epi32((__m128i)bits);
#else
  return __builtin_convertvector(bits, VecU);
#endif
}

LSTMREP_VECTOR_INLINE VecF widen_bfloat16(VecH bits) { return (VecF)(widen_halves(bits) << 16); }

// To nearest, ties to even. The one instruction for it takes subnormal numbers as zero, so a vector
// with one of those goes the long way.
LSTMREP_VECTOR_INLINE VecH narrow_bfloat16(VecF x) {
#if defined(__AVX512BF16__)
  constexpr int kSubnormal = 0x20;
  if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)x, kSubnormal) == 0, 1)) {
    return (VecH)_mm512_maskz_cvtneps_pbh(0xffff, (__m512)x);
  }
#endif
  const VecU u = (VecU)x;
  const VecU rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VecU quiet = (u >> 16) | 0x40u;
  const VecU bits = x == x ? rounded : quiet;
  return __builtin_convertvector(bits, VecH);
}

LSTMREP_VECTOR_INLINE VecF widen_float16(VecH bits) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);  // maskz: no false warning
#elif defined(__F16C__) && defined(__AVX2__)
  return (VecF)_mm256_cvtph_ps((__m128i)bits);
#else
  VecF x;
  for (int lane = 0; lane < kLanes<float>; ++lane) x[lane] = float16_to_float({bits[lane]});
  return x;
#endif
}

LSTMREP_VECTOR_INLINE VecH narrow_float16(VecF x) {
#if defined(__AVX512F__)
  return (VecH)_mm512_maskz_cvtps_ph(0xffff, (__m512)x,
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__) && defined(__AVX2__)
  return (VecH)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  VecH bits = {};
  for (int lane = 0; lane < kLanes<float>; ++lane) bits[lane] = float_to_float16(x[lane]).bits;
  return bits;
#endif
}

// I/O type S: its compute type C, and loads, stores and rounding of `count` <= kLanes<C> values.
template <class S>
struct Io {
  using C = S;
  static LSTMREP_VECTOR_INLINE Vec<C> load(const S* p, int64_t count) {
    return load_first<Vec<C>>(p, count);
  }
  static LSTMREP_VECTOR_INLINE void store(S* p, Vec<C> v, int64_t count) {
    store_first(p, v, count);
  }
  static LSTMREP_VECTOR_INLINE Vec<C> round(Vec<C> v) { return v; }
};

template <>
struct Io<BFloat16> {
  using C = float;
  static LSTMREP_VECTOR_INLINE VecF load(const BFloat16* p, int64_t count) {
    return widen_bfloat16(load_first<VecH>(p, count));
  }
  static LSTMREP_VECTOR_INLINE void store(BFloat16* p, VecF v, int64_t count) {
    store_first(p, narrow_bfloat16(v), count);
  }
  static LSTMREP_VECTOR_INLINE VecF round(VecF v) { return widen_bfloat16(narrow_bfloat16(v)); }
};

template <>
struct Io<Float16> {
  using C = float;
  static LSTMREP_VECTOR_INLINE VecF load(const Float16* p, int64_t count) {
    return widen_float16(load_first<VecH>(p, count));
  }
  static LSTMREP_VECTOR_INLINE void store(Float16* p, VecF v, int64_t count) {
    store_first(p, narrow_float16(v), count);
  }
  static LSTMREP_VECTOR_INLINE VecF round(VecF v) { return widen_float16(narrow_float16(v)); }
};

}  // namespace
}  // namespace lstmrep
