// Python entries of the launch counters.
#pragma once

#include <pybind11/pybind11.h>

#include "common/counters.h"

namespace lstmrep {
namespace bindings {

namespace py = pybind11;

inline py::dict launch_counts() {
  py::dict counts;
  for (int j = 0; j < kCounters; ++j) counts[kCounterNames[j]] = counter_values[j].load();
  return counts;
}

inline void reset_launch_counts() {
  for (std::atomic<int64_t>& value : counter_values) value.store(0);
}

inline void define_counters(py::module_& m) {
  m.def("launch_counts", launch_counts);
  m.def("reset_launch_counts", reset_launch_counts);
}

}  // namespace bindings
}  // namespace lstmrep
