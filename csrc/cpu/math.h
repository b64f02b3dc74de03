// Vector exp, sigmoid and tanh, and the math policies that the cell takes (see cell/lstm_cell.h).
//
// float: one range reduction x = n ln 2 + r, |r| <= ln(2)/2, and expm1(r) = r + r^2 P(r) with a
// minimax P of degree 5 (its own error is below 0.01 ulp). NaN goes through, infinities and
// overflow are right. Results of exp below the normal range lose bits gradually as they should;
// those of sigmoid, for x below -87.3, are zero. Bounds in units in the last place, measured over a
// dense sample of all floats (0.97, 2.25, 2.49) and asserted by tests/native/test_native_math.py
// for every instruction set, whether it has a fused multiply-add or not:
//   exp <= 1.0, sigmoid <= 2.3, tanh <= 2.5
// double: the C library's exp and tanh, lane by lane.
#pragma once

#include "cpu/simd.h"

namespace lstmrep {
namespace {

constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 in two parts; the first has 15 bits, so that its product with |n| < 512 is exact.
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
constexpr float kRoundingShift = 0x1.8p+23f;
// exp is +inf above and 0 below these (n + 1 and n / 2 stay in range for the scale factors).
constexpr float kExpHighest = 89.0f;
constexpr float kExpLowest = -104.5f;
constexpr float kLn2To126 = 0x1.5d589ep+6f;  // the float below ln(2^126)

struct ExpParts {
  VecF p;  // expm1 of the reduced argument
  VecF n;  // power of two, a whole number
};

// For x within [kExpLowest, kExpHighest], or NaN.
LSTMREP_VECTOR_INLINE ExpParts exp_parts(VecF x) {
  const VecF n = (x * kLog2E + kRoundingShift) - kRoundingShift;
  VecF r = x - n * kLn2High;
  r = r - n * kLn2Low;
  VecF p = splat<VecF>(0x1.a032f6p-13f);
  p = p * r + 0x1.6d755cp-10f;
  p = p * r + 0x1.11118cp-7f;
  p = p * r + 0x1.5554aep-5f;
  p = p * r + 0x1.555554p-3f;
  p = p * r + 0x1.000000p-1f;
  return {p * (r * r) + r, n};
}

// x 2^n for a whole n of [-151, 128], rounded once where the result is subnormal.
LSTMREP_VECTOR_INLINE VecF scale_by_power(VecF x, VecF n) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_scalef_ps(0xffff, (__m512)x, (__m512)n);
#else
  // Two factors: one would leave the range of exponents.
  const VecI whole = __builtin_convertvector(n == n ? n : VecF{}, VecI);
  const VecI half = whole >> 1;
  return x * (VecF)((half + 127) << 23) * (VecF)((whole - half + 127) << 23);
#endif
}

// a / d for d within [1, 2], or NaN. On AVX-512 not by the divider, which takes 16 cycles a vector
// and would be the narrowest part of the cell: a quotient by a reciprocal of 14 bits, corrected by
// its own remainder, which leaves 28.
LSTMREP_VECTOR_INLINE VecF quotient(VecF a, VecF d) {
#if defined(__AVX512F__)
  const VecF y = (VecF)_mm512_maskz_rcp14_ps(0xffff, (__m512)d);
  const VecF q = a * y;
  return q + y * (a - q * d);
#else
  return a / d;
#endif
}

// x, but not below or above a bound; a NaN stays one. (One instruction; g++ makes two of "?:".)
LSTMREP_VECTOR_INLINE VecF not_below(VecF x, float bound) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_max_ps(0xffff, (__m512)splat<VecF>(bound), (__m512)x);
#else
  return x < bound ? splat<VecF>(bound) : x;
#endif
}

LSTMREP_VECTOR_INLINE VecF not_above(VecF x, float bound) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_min_ps(0xffff, (__m512)splat<VecF>(bound), (__m512)x);
#else
  return x > bound ? splat<VecF>(bound) : x;
#endif
}

// For x within [kExpLowest, kExpHighest], or NaN.
LSTMREP_VECTOR_INLINE VecF exp_within(VecF x) {
  const ExpParts e = exp_parts(x);
  return scale_by_power(e.p + 1.0f, e.n);
}

LSTMREP_VECTOR_INLINE VecF vector_exp(VecF x) {
  return exp_within(not_below(not_above(x, kExpHighest), kExpLowest));
}

struct MathF {
  static LSTMREP_VECTOR_INLINE VecF sigmoid(VecF x) {
    // exp of -|x| only: s(x) = 1 / (1 + e) or e / (1 + e). Below the bound s is subnormal: zero.
    const VecF e = exp_within(not_below((VecF)((VecU)x | 0x80000000u), -kLn2To126));
    const VecF s = quotient(x > 0.0f ? splat<VecF>(1.0f) : e, 1.0f + e);
    return x < -kLn2To126 ? VecF{} : s;
  }
  static LSTMREP_VECTOR_INLINE VecF tanh(VecF x) {
    // tanh |x| = -m / (2 + m) with m = expm1(-2 |x|), accurate for small x because n is 0 there.
    const VecU sign = (VecU)x & 0x80000000u;
    const VecF y = (VecF)((VecU)x & 0x7fffffffu) * -2.0f;
    const ExpParts e = exp_parts(not_below(y, -40.0f));  // expm1(-40) is -1 in float
    const VecF scale = scale_by_power(splat<VecF>(1.0f), e.n);
    const VecF m = e.p * scale + (scale - 1.0f);
    return (VecF)(((VecU)quotient(m, 2.0f + m) & 0x7fffffffu) | sign);
  }
  static LSTMREP_VECTOR_INLINE VecF relu(VecF x) { return x < 0.0f ? VecF{} : x; }
  static LSTMREP_VECTOR_INLINE VecF where_positive(VecF x, VecF y) { return x > 0.0f ? y : VecF{}; }
};

struct MathD {
  static LSTMREP_VECTOR_INLINE VecD sigmoid(VecD x) {
    for (int lane = 0; lane < kLanes<double>; ++lane) {
      const double e = __builtin_exp(-__builtin_fabs(x[lane]));
      x[lane] = (x[lane] > 0.0 ? 1.0 : e) / (1.0 + e);
    }
    return x;
  }
  static LSTMREP_VECTOR_INLINE VecD tanh(VecD x) {
    for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = __builtin_tanh(x[lane]);
    return x;
  }
  static LSTMREP_VECTOR_INLINE VecD relu(VecD x) { return x < 0.0 ? VecD{} : x; }
  static LSTMREP_VECTOR_INLINE VecD where_positive(VecD x, VecD y) { return x > 0.0 ? y : VecD{}; }
};

template <class C>
struct MathOf;
template <>
struct MathOf<float> {
  using type = MathF;
};
template <>
struct MathOf<double> {
  using type = MathD;
};

// The test entry of CpuKernels: f is 0 exp, 1 sigmoid, 2 tanh.
void math_entry(int f, const float* x, float* y, int64_t n) {
  for (int64_t j = 0; j < n; j += kLanes<float>) {
    const VecF v = load_first<VecF>(x + j, n - j);
    const VecF r = f == 0 ? vector_exp(v) : f == 1 ? MathF::sigmoid(v) : MathF::tanh(v);
    store_first(y + j, r, n - j);
  }
}

}  // namespace
}  // namespace lstmrep
