// What every instruction set provides: a table of entry points, and the plain structs they take.
//
// Shapes: N recurrences, T steps, B batch, H hidden; all arrays dense and row-major. S is the I/O
// type, C the compute type (float, or double when S is double). Only plain data here, no inline
// functions: this header is included by translation units with different instruction sets.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/dtype.h"

namespace lstmrep {

constexpr int64_t kStreamRows = 4;  // of a batch whose W_hh may be read where it lies

struct CpuProblem {
  DType dtype;
  int cell;      // CellKind
  int threads;   // upper limit; results do not depend on it
  bool packed;   // weights are packed first; else read where they lie, by kStreamRows rows at most
  bool by_rows;  // packed only: threads share out rows and never wait in a step, else units
  int64_t n, t, b, h;
  int64_t i;                // features of x where forward forms the input share itself, else 0
  const void* const* w_hh;  // N pointers to [4H, H] S
  bool vectors_as_io;       // V, the type of biases and peepholes and of their gradients: S, else C
  const void* const* peephole;  // 3 N pointers to [H] V: i, f, o of each recurrence; may be null
  const void* c0;               // [N, B, H] C, may be null: zeros
  const int32_t* lengths;       // [N, B], may be null: all T
  const bool* reverse;          // [N]
  void* workspace;              // scratch, see workspace_bytes
};

struct CpuForwardArgs {
  CpuProblem p;
  const void* gates_x;       // [N, T, B, 4H] S, may be null: zeros; null where x is given
  const void* x;             // S, frame (n, t, b) at n x_n + t x_t + b x_b; null unless p.i > 0
  int64_t x_n, x_t, x_b;     // in elements
  const void* const* w_ih;   // N pointers to [4H, I] S, beside x
  const void* const* bias;   // for each of N bias_parts pointers to [4H] V that are added
  int bias_parts;            // 0, 1 or 2
  const void* h0;            // [N, B, H] S, may be null: zeros
  const void* const* packs;  // N pointers to what `pack` made, may be null: made in the call
  void* h;                   // [N, T, B, H] S, out
  void* h_n;                 // [N, B, H] S, out
  void* c_n;                 // [N, B, H] C, out
  void* gates;               // [N, T, B, 4H] S, out, may be null, may be gates_x
  void* c;                   // [N, T, B, H] C, out, may be null
};

struct CpuBackwardArgs {
  CpuProblem p;
  const void* gates;        // [N, T, B, 4H] S
  const void* c;            // [N, T, B, H] C
  const void* grad_h;       // [N, T, B, H] S, may be null: zeros
  const void* grad_h_n;     // [N, B, H] S, may be null: zeros
  const void* grad_c_n;     // [N, B, H] C, may be null: zeros
  void* d_gates;            // [N, T, B, 4H] S, out, may be gates
  void* d_h0;               // [N, B, H] S, out, may be null
  void* d_c0;               // [N, B, H] C, out, may be null
  void* d_bias;             // [N, 4H] V, out, may be null
  void* const* d_peephole;  // 3 N pointers to [H] V, out; may be null
};

// Of one recurrence.
struct CpuGradientsArgs {
  DType dtype;
  int threads;  // upper limit; results do not depend on it
  int64_t t, b, h, i;
  const void* d_gates;     // [T, B, 4H] S, zeros in frames beyond a sequence's end
  const void* x;           // S, frame (t, b) at t x_t + b x_b
  int64_t x_t, x_b;        // in elements
  const void* w_ih;        // [4H, I] S
  const void* h_out;       // [T, B, H] S
  const void* h0;          // [B, H] S, may be null: zeros
  const int32_t* lengths;  // [B], may be null: all T
  bool reverse;
  bool add;      // d_x to what is there
  void* d_x;     // [T, B, I] S, out, may be null
  void* d_w_ih;  // [4H, I] S, out, may be null
  void* d_w_hh;  // [4H, H] S, out, may be null
  void* workspace;
};

struct CpuKernels {
  void (*forward)(const CpuForwardArgs&);
  void (*backward)(const CpuBackwardArgs&);
  size_t (*workspace_bytes)(const CpuProblem&, bool backward);
  void (*gradients)(const CpuGradientsArgs&);
  size_t (*gradients_workspace_bytes)(const CpuGradientsArgs&, bool input);  // input: d_x is wanted
  // A pack of one W_hh [4H, H] for forward calls with this instruction set, and its size.
  void (*pack)(DType, int64_t h, const void* w_hh, void* pack);
  size_t (*pack_bytes)(DType, int64_t h);
  // y[j] = f(x[j]) for the vector function of this instruction set; f: 0 sigmoid, 1 tanh.
  void (*math)(int f, const float* x, float* y, int64_t n);
};

// One accessor per instruction set that was compiled in (LSTMREP_HAS_AVX2 and so on).
const CpuKernels& cpu_kernels_baseline();
const CpuKernels& cpu_kernels_avx2();
const CpuKernels& cpu_kernels_avx512();
const CpuKernels& cpu_kernels_avx512_bf16();
const CpuKernels& cpu_kernels_amx();

}  // namespace lstmrep
