// ldmatrix: 8 x 8 matrices of 16-bit elements from shared memory into the fragments of mma.
//
// Lane l supplies the address of row l % 8 of matrix l / 8: 16 bytes, a multiple of 16; x2 looks at
// lanes 0..15 only. Of matrix m lane l gets the word r[m]: elements 2 (l % 4) and 2 (l % 4) + 1 of
// row l / 4, or with trans rows 2 (l % 4) and 2 (l % 4) + 1 of column l / 4; the first is in the
// low half. All 32 lanes take part.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

#if defined(__CUDACC__)

LSTMREP_DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

LSTMREP_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

LSTMREP_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#else

struct LdmatrixArgument {
  uint16_t row[8];
  uint32_t r[4];
};

template <int kMatrices, bool kTrans>
EMULATOR_UNCHECKED void ldmatrix_operation(void** lanes, unsigned) {
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int m = 0; m < kMatrices; ++m) {
      uint32_t word = 0;
      for (int e = 0; e < 2; ++e) {
        const int i = lane / 4, j = lane % 4 * 2 + e;
        const int row = kTrans ? j : i, column = kTrans ? i : j;
        const uint16_t x = static_cast<const LdmatrixArgument*>(lanes[m * 8 + row])->row[column];
        word |= uint32_t{x} << (16 * e);
      }
      static_cast<LdmatrixArgument*>(lanes[lane])->r[m] = word;
    }
  }
}

// Each lane reads its own row: a race checker charges the read to that lane.
template <int kMatrices, bool kTrans>
inline void ldmatrix(uint32_t (&r)[kMatrices], const void* row) {
  LdmatrixArgument x = {};
  if (static_cast<int>(::emulator::self().lane) < 8 * kMatrices) {
    if (reinterpret_cast<uintptr_t>(row) % 16) ::emulator::fail("ldmatrix off its alignment");
    if (!::emulator::in_shared(row, 16)) ::emulator::fail("ldmatrix outside shared memory");
    memcpy(x.row, row, sizeof x.row);
  }
  ::emulator::collective(ldmatrix_operation<kMatrices, kTrans>, kAllLanes, &x);
  memcpy(r, x.r, sizeof r);
}

inline void ldmatrix_x2(uint32_t (&r)[2], const void* row) { ldmatrix<2, false>(r, row); }
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix<4, false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) { ldmatrix<4, true>(r, row); }

#endif

}  // namespace lstmrep
