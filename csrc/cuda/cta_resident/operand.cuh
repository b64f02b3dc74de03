// What is multiplied with W_hh, in shared memory, and the multiplication of one block of K.
//
// With tensor cores an operand is [pattern][K] O: its 2 or 4 columns stand for all 8 of an mma
// tile, modulo pattern, so that every lane gets sums it can use. Without them (O = float, true
// float32) it is [K][4 columns], and a lane sums its own quarter of K.
#pragma once

#include "cuda/cta_resident/config.h"
#include "cuda/primitives/shuffle.h"
#include "cuda/recurrence/operand.cuh"

namespace lstmrep {

template <class O>
struct TensorOperand {
  char* memory;
  int pitch, pattern;

  LSTMREP_DEVICE O* at(int row, int k) const {
    return reinterpret_cast<O*>(memory + row * pitch) + k;
  }

  struct Sum {
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};

    LSTMREP_DEVICE void add(const Sum& other) {
      LSTMREP_UNROLL
      for (int j = 0; j < 4; ++j) d[j] += other.d[j];
    }

    // The sums of the elements that the lane owns, by slot (see element.cuh).
    LSTMREP_DEVICE void owned(int pattern, int t, float (&out)[kResidentSlots]) const {
      if (pattern == 4) {
        out[0] = t & 2 ? d[2] : d[0];
        out[1] = t & 2 ? d[3] : d[1];
      } else {
        const float odd = t & 2 ? d[3] : d[1], even = t & 2 ? d[2] : d[0];
        out[0] = t & 1 ? odd : even;
      }
    }
  };

  struct Part {
    Words w;
  };

  // The lane's share of a block of the operand.
  LSTMREP_DEVICE Part part(int block, int g, int t) const {
    return {load_words(memory + g % pattern * pitch + block * kBlockBytes + t * 16)};
  }

  template <int kPattern>
  LSTMREP_DEVICE static void multiply(Sum& sum, const WeightBlock& a, const Part& b) {
    multiply_block<O>(sum.d, a, b.w);
  }
};

struct FloatOperand {
  static constexpr int kColumns = 4;

  char* memory;
  int pitch, pattern;  // pattern: 2 or 4; columns beyond it are neither read nor summed

  LSTMREP_DEVICE float* at(int row, int k) const {
    return reinterpret_cast<float*>(memory) + k * kColumns + row;
  }

  struct Sum {
    float d[2][kColumns] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};

    LSTMREP_DEVICE void add(const Sum& other) {
      LSTMREP_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        d[0][j] += other.d[0][j];
        d[1][j] += other.d[1][j];
      }
    }

    // Each exchange over the quad halves what a lane keeps, until it has just its own elements.
    LSTMREP_DEVICE void owned(int pattern, int t, float (&out)[kResidentSlots]) const {
      float v[kColumns];
      LSTMREP_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        if (j >= pattern) break;
        const float mine = t & 2 ? d[1][j] : d[0][j], other = t & 2 ? d[0][j] : d[1][j];
        v[j] = mine + from_lane_xor(other, 2);
      }
      if (pattern == 4) {
        LSTMREP_UNROLL
        for (int j = 0; j < 2; ++j) {
          const float mine = t & 1 ? v[2 + j] : v[j], other = t & 1 ? v[j] : v[2 + j];
          out[j] = mine + from_lane_xor(other, 1);
        }
      } else {
        const float mine = t & 1 ? v[1] : v[0], other = t & 1 ? v[0] : v[1];
        out[0] = mine + from_lane_xor(other, 1);
      }
    }
  };

  struct Part {
    const float* first;
  };

  LSTMREP_DEVICE Part part(int block, int, int t) const {
    return {at(0, block * (kBlockBytes / 4) + t * 4)};
  }

  template <int kPattern>
  LSTMREP_DEVICE static void multiply(Sum& sum, const WeightBlock& a, const Part& b) {
    LSTMREP_UNROLL
    for (int e = 0; e < 4; ++e) {
      const Words v = load_words(b.first + e * kColumns);
      const float low = word_to_float(a.part[0].w[e]), high = word_to_float(a.part[1].w[e]);
      LSTMREP_UNROLL
      for (int j = 0; j < kPattern; ++j) {
        const float x = word_to_float(v.w[j]);
        sum.d[0][j] += low * x;
        sum.d[1][j] += high * x;
      }
    }
  }
};

template <class O>
struct ResidentOperand {
  using Type = TensorOperand<O>;
};

template <>
struct ResidentOperand<float> {
  using Type = FloatOperand;
};

}  // namespace lstmrep
