// The pointwise kernels' own source as a host library, for tests on machines without a GPU.
//
// Two C functions with the arguments of the native entries, less device and stream. They return 0,
// or 1 when dtype or cell is no known code. Built by emulated_pointwise.py.
#include "cuda_shim.h"

#include "common/dtype.h"
#include "cuda/pointwise/kernel.cuh"

using namespace lstmrep;

namespace {

// Few threads, so that the grid-stride loop is taken more than once by most tests.
constexpr unsigned kBlocks = 3;
constexpr unsigned kThreads = 32;

template <class Args>
using Kernel = void (*)(Args);

template <class Args>
int launch(int dtype, int cell, const Kernel<Args> (&kernels)[3][kCells], const Args& args) {
  if (dtype < 0 || dtype > 2 || cell < 0 || cell >= kCells) return 1;
  shim_launch(kernels[dtype][cell], kBlocks, kThreads, args);
  return 0;
}

}  // namespace

extern "C" int emulated_pointwise_forward(int dtype, int cell, int n, int t, int b, int h, int step,
                                          const void* gates_x, const float* recurrent,
                                          const float* bias, const float* peephole,
                                          const int32_t* lengths, uint64_t reverse, float* c_state,
                                          void* h_state, void* h_out, void* gates, float* c) {
  static constexpr Kernel<PointwiseForwardArgs> kKernels[3][kCells] = {
      {pointwise_forward_kernel<float, CellKind::kTanh>,
       pointwise_forward_kernel<float, CellKind::kRelu>},
      {pointwise_forward_kernel<BFloat16, CellKind::kTanh>,
       pointwise_forward_kernel<BFloat16, CellKind::kRelu>},
      {pointwise_forward_kernel<Float16, CellKind::kTanh>,
       pointwise_forward_kernel<Float16, CellKind::kRelu>}};
  const PointwiseForwardArgs args = {{n, t, b, h, step, reverse},
                                     gates_x,
                                     recurrent,
                                     bias,
                                     peephole,
                                     lengths,
                                     c_state,
                                     h_state,
                                     h_out,
                                     gates,
                                     c};
  return launch(dtype, cell, kKernels, args);
}

extern "C" int emulated_pointwise_backward(int dtype, int cell, int n, int t, int b, int h,
                                           int step, const float* peephole, const int32_t* lengths,
                                           uint64_t reverse, const void* gates, const float* c,
                                           const float* c0, const void* grad_h,
                                           const void* grad_h_n, const float* grad_c_n,
                                           const float* dh_recurrent, float* dc, void* d_gates,
                                           void* d_step, float* sums) {
  static constexpr Kernel<PointwiseBackwardArgs> kKernels[3][kCells] = {
      {pointwise_backward_kernel<float, CellKind::kTanh>,
       pointwise_backward_kernel<float, CellKind::kRelu>},
      {pointwise_backward_kernel<BFloat16, CellKind::kTanh>,
       pointwise_backward_kernel<BFloat16, CellKind::kRelu>},
      {pointwise_backward_kernel<Float16, CellKind::kTanh>,
       pointwise_backward_kernel<Float16, CellKind::kRelu>}};
  const PointwiseBackwardArgs args = {{n, t, b, h, step, reverse},
                                      peephole,
                                      lengths,
                                      gates,
                                      c,
                                      c0,
                                      grad_h,
                                      grad_h_n,
                                      grad_c_n,
                                      dh_recurrent,
                                      dc,
                                      d_gates,
                                      d_step,
                                      sums};
  return launch(dtype, cell, kKernels, args);
}
