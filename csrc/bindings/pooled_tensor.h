// Uninitialised tensors on blocks of the pool, handed to torch as DLPack capsules.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "bindings/check.h"
#include "bindings/tensor_view.h"
#include "common/block_pool.h"
#include "common/dtype.h"

namespace lstmrep {
namespace bindings {

// What a capsule named "dltensor" holds: DLPack's managed tensor, and behind it what is ours.
struct PooledTensor {
  TensorView view;
  void* context;
  void (*deleter)(PooledTensor*);
  BlockPool::Block block;
  std::vector<int64_t> sizes;

  // Called once, by whoever holds the last tensor on the block: from any thread, without the GIL.
  static void drop(PooledTensor* tensor) {
    BlockPool::shared().give_back(tensor->block);
    delete tensor;
  }
};

// Dense, of these sizes. torch takes what is in the capsule and renames it.
inline py::object pooled_tensor(int dtype, const std::vector<int64_t>& sizes) {
  constexpr uint8_t kFloat = 2, kBFloat = 4;  // DLPack's codes
  constexpr uint8_t kBits[kDTypes] = {32, 16, 16, 64};
  code("dtype", dtype, kDTypes);
  size_t bytes = kBits[dtype] / 8;
  for (const int64_t size : sizes) {
    at_least("sizes", size, 1);
    bytes *= static_cast<size_t>(size);
  }
  auto made = std::make_unique<PooledTensor>();
  made->sizes = sizes;
  made->block = BlockPool::shared().take(bytes);
  if (!made->block.address) {
    throw std::runtime_error("lstmrep: there is no memory for a result of " +
                             std::to_string(bytes) +
                             " bytes; make the batch or the layer smaller.");
  }
  made->deleter = PooledTensor::drop;
  TensorView& view = made->view;
  view = {};
  view.data = made->block.address;
  view.device = {kOnCpu, 0};
  view.dims = static_cast<int32_t>(sizes.size());
  view.dtype = {dtype == static_cast<int>(DType::kBFloat16) ? kBFloat : kFloat, kBits[dtype], 1};
  view.sizes = made->sizes.data();
  constexpr const char* kName = "dltensor";
  PyObject* capsule = PyCapsule_New(made.get(), kName, [](PyObject* capsule) {
    // Not where torch has taken it: the name has changed.
    void* held = PyCapsule_IsValid(capsule, kName) ? PyCapsule_GetPointer(capsule, kName) : nullptr;
    if (held) PooledTensor::drop(static_cast<PooledTensor*>(held));
  });
  if (!capsule) {
    BlockPool::shared().give_back(made->block);
    throw py::error_already_set();
  }
  made.release();
  return py::reinterpret_steal<py::object>(capsule);
}

inline size_t clear_pool() { return BlockPool::shared().clear(); }

}  // namespace bindings
}  // namespace lstmrep
