// Chooses the instruction set at run time and forwards to its kernels (see cpu/kernels.h).
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace lstmrep {
namespace cpu {

std::vector<std::string> isas_built();   // best last
std::vector<std::string> isas_usable();  // those this processor and system can run, best last
std::string isa();                       // in use: the best usable one unless set
void set_isa(const std::string& name);   // throws std::invalid_argument naming what is usable

// Enough for any usable instruction set: set_isa between this call and the next does no harm.
size_t workspace_bytes(const CpuProblem& problem, bool backward);
void forward(CpuForwardArgs args);
void backward(CpuBackwardArgs args);
size_t gradients_workspace_bytes(const CpuGradientsArgs& args, bool input);
void gradients(CpuGradientsArgs args);
// For the instruction set in use: a pack serves forward calls with that one only.
size_t pack_bytes(DType dtype, int64_t h);
void pack(DType dtype, int64_t h, const void* w_hh, void* pack);
void math(int f, const float* x, float* y, int64_t n);

}  // namespace cpu
}  // namespace lstmrep
