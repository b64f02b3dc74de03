// Warp-wide matrix products on tensor cores: D = A B + D, A 16 x K, B K x 8, D 16 x 8 in float32.
//
// K is 16 for bfloat16 and float16, 8 for TF32: 32 bytes of K. With g = lane / 4 and t = lane % 4 a
// lane holds (PTX ISA, mma fragments), E = 2 elements a word for 16-bit types and 1 for TF32:
//   a[0] row g,     k = E t ..         a[1] row g + 8, the same k
//   a[2] row g,     k = K/2 + E t ..   a[3] row g + 8, the same k
//   b[0] column g,  k = E t ..         b[1] column g,  k = K/2 + E t ..
//   d[0], d[1] row g, columns 2t, 2t + 1;   d[2], d[3] row g + 8, the same columns
// Rounding: products are exact; how the hardware rounds their sum is not specified. The emulation
// sums in double and rounds once. TF32 operands must already be rounded (round_to_tf32).
#pragma once

#include "cuda/primitives/convert.h"
#include "cuda/primitives/device.h"

namespace lstmrep {

// A float32 whose low 13 bits are zero: 8 bits of exponent, 10 of mantissa.
struct Tf32 {
  float value;
};

LSTMREP_DEVICE float to_float(Tf32 x) { return x.value; }

// To nearest, ties away from zero; a NaN stays a NaN.
LSTMREP_DEVICE Tf32 round_to_tf32(float x) {
  uint32_t bits;
#if defined(__CUDACC__)
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return {__uint_as_float(bits)};
#else
  bits = float_to_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) bits |= 0x400000u;
  if ((bits & 0x7f800000u) != 0x7f800000u) bits += 0x1000u;
  return {bits_to_float(bits & 0xffffe000u)};
#endif
}

#if defined(__CUDACC__)

#define LSTMREP_MMA(shape_and_types)                                              \
  asm volatile("mma.sync.aligned." shape_and_types                                \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <class S>
LSTMREP_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
LSTMREP_DEVICE void mma<BFloat16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  LSTMREP_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

template <>
LSTMREP_DEVICE void mma<Float16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  LSTMREP_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}

template <>
LSTMREP_DEVICE void mma<Tf32>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  LSTMREP_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

#undef LSTMREP_MMA

#else

struct MmaArgument {
  uint32_t a[4], b[2];
  float d[4];
};

template <class S>
EMULATOR_UNCHECKED void mma_operation(void** lanes, unsigned) {
  constexpr int kPerWord = static_cast<int>(4 / sizeof(S)), kHalf = 4 * kPerWord, kK = 2 * kHalf;
  double a[16][kK], b[kK][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& x = *static_cast<const MmaArgument*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    S part[kPerWord];
    for (int word = 0; word < 4; ++word) {
      memcpy(part, &x.a[word], 4);
      for (int e = 0; e < kPerWord; ++e) {
        a[g + word % 2 * 8][word / 2 * kHalf + t * kPerWord + e] = to_float(part[e]);
      }
    }
    for (int word = 0; word < 2; ++word) {
      memcpy(part, &x.b[word], 4);
      for (int e = 0; e < kPerWord; ++e) b[word * kHalf + t * kPerWord + e][g] = to_float(part[e]);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    auto& x = *static_cast<MmaArgument*>(lanes[lane]);
    for (int j = 0; j < 4; ++j) {
      const int row = lane / 4 + j / 2 * 8, column = lane % 4 * 2 + j % 2;
      double sum = static_cast<double>(x.d[j]);
      for (int k = 0; k < kK; ++k) sum += a[row][k] * b[k][column];
      x.d[j] = static_cast<float>(sum);
    }
  }
}

template <class S>
inline void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MmaArgument x;
  memcpy(x.a, a, sizeof a);
  memcpy(x.b, b, sizeof b);
  memcpy(x.d, d, sizeof d);
  ::emulator::collective(mma_operation<S>, kAllLanes, &x);
  memcpy(d, x.d, sizeof d);
}

#endif

}  // namespace lstmrep
