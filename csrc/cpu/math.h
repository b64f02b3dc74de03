// Vector sigmoid and tanh, and the math policies that the cell takes (see cell/lstm_cell.h).
//
// float: one range reduction y = n ln 2 + r, |r| <= ln(2)/2, and exp(r) = 1 + r + r^2 P(r) with a
// minimax P of degree 4. NaN goes through, infinities are right; sigmoid is zero for x below -87.3,
// where it would leave the normal range. Bounds in units in the last place, measured over a dense
// sample of all floats (2.47, 2.49) and asserted by tests/native/test_native_math.py for every
// instruction set, whether it has a fused multiply-add or not:
//   sigmoid <= 2.5, tanh <= 2.5
// double: the C library's exp and tanh, lane by lane.
#pragma once

#include "cpu/simd.h"

namespace lstmrep {
namespace {

constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 in two parts; the first has 15 bits, so that its product with |n| < 512 is exact.
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
constexpr float kLn2 = 0x1.62e43p-1f;
// Adding 1.5 * 2^23 rounds to a whole number n; with 127 more the low bits are the exponent of 2^n,
// right for n from -126 to 127.
constexpr float kExponentShift = 0x1.8p+23f + 127.0f;
constexpr float kLn2To126 = 0x1.5d589ep+6f;  // the float below ln(2^126)

// 2^n from n + kExponentShift.
LSTMREP_VECTOR_INLINE VecF power_of_two(VecF shifted) { return (VecF)((VecU)shifted << 23); }

// 1 / d for 1 <= d <= 2^126, or NaN. On AVX-512 not by the divider, which takes 6 cycles a vector
// on some processors but 16 on others, where five activations would wait for it: by a reciprocal of
// 14 bits and its own remainder, which leaves 28. (The cell's two tanh may have the divider.)
LSTMREP_VECTOR_INLINE VecF reciprocal(VecF d) {
#if defined(__AVX512F__)
  const VecF y = (VecF)_mm512_maskz_rcp14_ps(0xffff, (__m512)d);
  return y + y * (1.0f - y * d);
#else
  return 1.0f / d;
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

// |magnitude| with the sign of another.
LSTMREP_VECTOR_INLINE VecF with_sign_of(VecF magnitude, VecF sign) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_set1_epi32(0x7fffffff);  // of a bit set here, else of `sign`
  return (VecF)_mm512_ternarylogic_epi32((__m512i)magnitude, (__m512i)sign, low, 0xe4);
#else
  return (VecF)(((VecU)magnitude & 0x7fffffffu) | ((VecU)sign & 0x80000000u));
#endif
}

struct MathF {
  // 1 / (1 + exp(-x)).
  static LSTMREP_VECTOR_INLINE VecF sigmoid(VecF x) {
    const VecF within = not_below(not_above(x, kLn2To126), -kLn2To126);
    const VecF shifted = within * -kLog2E + kExponentShift;
    const VecF n = shifted - kExponentShift;
    VecF r = n * -kLn2High - within;
    r = r - n * kLn2Low;
    VecF p = splat<VecF>(0x1.6db30cp-10f);
    p = p * r + 0x1.123ab4p-7f;
    p = p * r + 0x1.555460p-5f;
    p = p * r + 0x1.555490p-3f;
    p = p * r + 0x1.000000p-1f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const VecF s = reciprocal(p * power_of_two(shifted) + 1.0f);
    return x < -kLn2To126 ? VecF{} : s;
  }
  // tanh |x| = -m / (2 + m) with m = expm1(-2 |x|), accurate for small x because n is 0 there.
  static LSTMREP_VECTOR_INLINE VecF tanh(VecF x) {
    const VecF half = not_above((VecF)((VecU)x & 0x7fffffffu), 20.0f);  // expm1(-40) is -1 in float
    const VecF shifted = half * (-2.0f * kLog2E) + kExponentShift;
    const VecF n = shifted - kExponentShift;
    // ln 2 in one part: its error, n 2e-9, counts 2^n times.
    const VecF r = n * -kLn2 - (half + half);
    // r^2 P(r) + r with P's error weighted by r: it is relative to r.
    VecF p = splat<VecF>(0x1.6d976cp-10f);
    p = p * r + 0x1.1226eap-7f;
    p = p * r + 0x1.55548ap-5f;
    p = p * r + 0x1.5554b2p-3f;
    p = p * r + 0x1.000000p-1f;
    p = p * (r * r) + r;
    const VecF scale = power_of_two(shifted);
    const VecF m = p * scale + (scale - 1.0f);
    return with_sign_of(m / (m + 2.0f), x);
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

// The test entry of CpuKernels: f is 0 sigmoid, 1 tanh.
void math_entry(int f, const float* x, float* y, int64_t n) {
  for (int64_t j = 0; j < n; j += kLanes<float>) {
    const VecF v = load_first<VecF>(x + j, n - j);
    store_first(y + j, f == 0 ? MathF::sigmoid(v) : MathF::tanh(v), n - j);
  }
}

}  // namespace
}  // namespace lstmrep
