// Stands in for the CUDA files in a build without CUDA: same functions, one reason.
#include <stdexcept>

#include "cuda/abort.h"
#include "cuda/cta_resident/launch.h"
#include "cuda/device.h"
#include "cuda/frame_loss/launch.h"
#include "cuda/grid_resident/launch.h"
#include "cuda/pointwise/launch.h"

namespace lstmrep {
namespace cuda {

namespace {
const char kReason[] = "lstmrep was built without CUDA (no nvcc was found, or LSTMREP_CUDA=0).";
}

std::string status() { return kReason; }
std::vector<Device> devices() { return {}; }
std::string nvcc_version() { return ""; }

uint32_t* abort_word(int) { throw std::runtime_error(kReason); }
uint32_t take_abort(int) { return 0; }
std::vector<int> abort_devices() { return {}; }

void frame_loss_forward(int, void*, DType, const FrameLossForwardArgs&) {
  throw std::runtime_error(kReason);
}

void frame_loss_backward(int, void*, DType, const FrameLossBackwardArgs&) {
  throw std::runtime_error(kReason);
}

void pointwise_forward(int, void*, DType, CellKind, const PointwiseForwardArgs&) {
  throw std::runtime_error(kReason);
}

void pointwise_backward(int, void*, DType, CellKind, const PointwiseBackwardArgs&) {
  throw std::runtime_error(kReason);
}

void resident_forward(int, void*, DType, bool, const RecurrenceForwardArgs&) {
  throw std::runtime_error(kReason);
}

void resident_backward(int, void*, DType, bool, const RecurrenceBackwardArgs&) {
  throw std::runtime_error(kReason);
}

void grid_forward(int, void*, DType, bool, const GridForwardArgs&) {
  throw std::runtime_error(kReason);
}

void grid_backward(int, void*, DType, bool, const GridBackwardArgs&) {
  throw std::runtime_error(kReason);
}

}  // namespace cuda
}  // namespace lstmrep
