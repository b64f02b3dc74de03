// The emulated device as a Python module: the CUDA entries of lstmrep._native, built from the same
// sources, and the controls of the emulator.

#include "bindings/counters.h"
#include "bindings/cuda.h"
#include "card.h"

namespace py = pybind11;

namespace {

void set_card(const std::string& name, int major, int minor, int sm_count, size_t shared_optin) {
  emulator::Machine& m = emulator::machine();
  m.card.name = name;
  m.card.major = major;
  m.card.minor = minor;
  m.card.sm_count = sm_count;
  m.card.shared_optin = shared_optin;
  m.opted_in.clear();
}

// What was launched since the last call: (grid, block, dynamic shared memory) each.
py::list take_launches() {
  py::list list;
  auto triple = [](const dim3& d) { return py::make_tuple(d.x, d.y, d.z); };
  for (const emulator::LaunchRecord& l : emulator::machine().launches) {
    list.append(py::make_tuple(triple(l.grid), triple(l.block), l.shared));
  }
  emulator::machine().launches.clear();
  return list;
}

// What a kernel that gives up does; the word is made as its launch would make it.
void give_up(int device, uint32_t code) {
  __atomic_store_n(lstmrep::cuda::abort_word(device), code, __ATOMIC_RELEASE);
}

}  // namespace

PYBIND11_MODULE(_emulated, m) {
  using py::arg;
  lstmrep::bindings::define_counters(m);
  lstmrep::bindings::define_cuda(m);
  m.def("set_card", set_card, arg("name"), arg("major"), arg("minor"), arg("sm_count"),
        arg("shared_optin"));
  m.def("set_seed", [](unsigned seed) { emulator::machine().seed = seed; }, arg("seed"));
  m.def("take_launches", take_launches);
  m.def("give_up", give_up, arg("device"), arg("code"));
}
