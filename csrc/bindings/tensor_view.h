// A torch tensor's address and sizes, read in C++ without its Python attributes.
//
// torch (from 2.10 on) hands out a table of C functions for this under DLPack's name, as
// `torch.Tensor.__dlpack_c_exchange_api__`. The structs below are DLPack's version 1, of which only
// what is read here has a name. No torch header is needed, and no particular build of torch.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "bindings/check.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

struct TensorView {
  void* data;
  struct {
    int32_t type, index;
  } device;
  int32_t dims;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  const int64_t* sizes;
  const int64_t* strides;
  uint64_t byte_offset;

  char* address() const { return static_cast<char*>(data) + byte_offset; }
};

constexpr int32_t kOnCpu = 1;

class TensorReader {
 public:
  // `table` is the capsule; `types` are the classes whose instances are tensors and nothing else.
  void use(const py::capsule& table, const py::type& tensor, const py::type& parameter) {
    const Table* api = table.get_pointer<const Table>();
    require(api->major == 1, "the table must be of DLPack's major version 1");
    require(api->view, "the table must have a function that reads a tensor");
    types_ = {reinterpret_cast<PyTypeObject*>(tensor.ptr()),
              reinterpret_cast<PyTypeObject*>(parameter.ptr())};
    view_ = api->view;
  }

  // Whether `object` is a plain tensor on the CPU; no Python error is left behind.
  bool read(PyObject* object, TensorView* view) const {
    if (Py_TYPE(object) != types_[0] && Py_TYPE(object) != types_[1]) return false;
    if (view_(object, view)) {
      PyErr_Clear();
      return false;
    }
    return view->device.type == kOnCpu && view->strides;
  }

 private:
  struct Table {
    uint32_t major, minor;
    void *previous, *allocate, *take, *give;
    int (*view)(void* object, TensorView* view);
  };

  int (*view_)(void*, TensorView*) = [](void*, TensorView*) { return -1; };
  std::array<PyTypeObject*, 2> types_ = {};
};

inline TensorReader& reader() {
  static TensorReader one;
  return one;
}

inline void read_tensors_by(const py::capsule& table, const py::type& tensor,
                            const py::type& parameter) {
  reader().use(table, tensor, parameter);
}

// Types, sizes and strides of tensors, some of which may be None, and LSTMREP_BACKEND, which may
// change from call to call (asking Python's os.environ takes longer than all the rest), as one key;
// None where one is not a plain tensor on the CPU.
inline py::object signature(const py::tuple& tensors) {
  const char* backend = std::getenv("LSTMREP_BACKEND");
  std::string key = backend ? backend : "auto";
  key.reserve(1024);
  const auto add = [&key](const void* from, size_t bytes) {
    key.append(static_cast<const char*>(from), bytes);
  };
  for (const py::handle tensor : tensors) {
    int32_t dims = -1;
    if (!tensor.is_none()) {
      TensorView view;
      if (!reader().read(tensor.ptr(), &view)) return py::none();
      dims = view.dims;
      add(&view.dtype, sizeof view.dtype);
      add(view.sizes, sizeof(int64_t) * dims);
      add(view.strides, sizeof(int64_t) * dims);
    }
    add(&dims, sizeof dims);
  }
  return py::bytes(key);
}

}  // namespace bindings
}  // namespace lstmrep
