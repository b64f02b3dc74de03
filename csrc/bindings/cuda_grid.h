// Python entries of the grid-resident kernels: checks, builds the argument structs, releases the
// GIL.
//
// Layout and memory: cuda/grid_resident/config.h.
#pragma once

#include <array>

#include "bindings/cuda_recurrence.h"
#include "cuda/abort.h"
#include "cuda/grid_resident/launch.h"

namespace lstmrep {
namespace bindings {

// members, replicas, concurrent, tiles, panels, row_tiles, slots, most_shared
using GridChoice = std::array<int32_t, 8>;

inline GridShape grid_shape(const GridChoice& choice) {
  GridShape g = {};
  g.members = choice[0];
  g.replicas = choice[1];
  g.concurrent = choice[2];
  g.tiles = choice[3];
  g.panels = choice[4];
  g.row_tiles = choice[5];
  g.slots = choice[6];
  g.most_shared = choice[7];
  return g;
}

inline GridMemory grid_memory(int device, Address exchange, Address counters, Address streamed,
                              Address parts, uint64_t budget_ns) {
  not_null("exchange", exchange, 1);
  not_null("counters", counters, 1);
  GridMemory m = {};
  m.exchange = pointer(exchange);
  m.counters = pointer<uint32_t>(counters);
  m.streamed = pointer(streamed);
  m.parts = pointer<float>(parts);
  m.gave_up = cuda::abort_word(device);
  m.budget_ns = budget_ns;
  return m;
}

inline void cuda_grid_forward(int device, Address stream, int dtype, int cell, bool tf32, int64_t n,
                              int64_t t, int64_t b, int64_t h, int64_t rows,
                              const GridChoice& choice, Address gates_x,
                              const std::vector<Address>& bias, const std::vector<Address>& w_hh,
                              const std::vector<Address>& peephole, bool vector_io, Address h0,
                              Address c0, bool shared_start, Address lengths, uint64_t reverse,
                              Address h_out, Address h_n, Address c_n, Address gates, Address c,
                              Address exchange, Address counters, Address streamed,
                              uint64_t budget_ns) {
  GridForwardArgs args = {};
  args.call =
      recurrence_forward(recurrence_shape(device, dtype, cell, n, t, b, h, rows, w_hh, reverse,
                                          vector_io, shared_start),
                         gates_x, bias, w_hh, peephole, h0, c0, lengths, h_out, h_n, c_n, gates, c);
  args.grid = grid_shape(choice);
  args.memory = grid_memory(device, exchange, counters, streamed, 0, budget_ns);
  py::gil_scoped_release release;
  cuda::grid_forward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

inline void cuda_grid_backward(int device, Address stream, int dtype, int cell, bool tf32,
                               int64_t n, int64_t t, int64_t b, int64_t h, int64_t rows,
                               const GridChoice& choice, const std::vector<Address>& w_hh,
                               const std::vector<Address>& peephole, bool vector_io, Address c0,
                               bool shared_start, Address lengths, uint64_t reverse, Address gates,
                               Address c, Address grad_h, Address grad_h_n, Address grad_c_n,
                               Address d_gates, Address d_h0, Address d_c0, Address dc,
                               Address vectors, Address sums, Address start_parts, Address arrivals,
                               Address exchange, Address counters, Address streamed, Address parts,
                               uint64_t budget_ns) {
  GridBackwardArgs args = {};
  args.call = recurrence_backward(recurrence_shape(device, dtype, cell, n, t, b, h, rows, w_hh,
                                                   reverse, vector_io, shared_start),
                                  w_hh, peephole, c0, lengths, gates, c, grad_h, grad_h_n, grad_c_n,
                                  d_gates, d_h0, d_c0, vectors, sums, start_parts, arrivals);
  not_null("dc", dc, b);
  not_null("parts", parts, 1);
  args.grid = grid_shape(choice);
  args.memory = grid_memory(device, exchange, counters, streamed, parts, budget_ns);
  args.dc = pointer<float>(dc);
  py::gil_scoped_release release;
  cuda::grid_backward(device, pointer(stream), static_cast<DType>(dtype), tf32, args);
}

// What the planner forms in Python: bytes of shared memory of a CTA, its levels of weights in
// registers, in shared memory and streamed, chunks, and the sizes of the memory that a launch
// needs.
inline py::dict cuda_grid_layout(int64_t n, int h, int rows, int width, bool tensor, bool backward,
                                 const GridChoice& choice) {
  at_least("H", h, 1);
  at_least("rows", rows, 1);
  const GridShape g = grid_layout(grid_shape(choice), h, rows, width, tensor, backward);
  const int64_t teams = n * g.replicas;
  py::dict sizes;
  sizes["held"] = grid_held(tensor, g.tiles);
  sizes["levels"] = g.levels;
  sizes["shared_levels"] = g.shared_levels;
  sizes["streamed"] = g.streamed;
  sizes["chunks"] = g.chunks;
  sizes["shared_bytes"] = g.shared_bytes;
  sizes["exchange_bytes"] = grid_exchange_bytes(g, static_cast<int>(n), backward);
  sizes["counter_words"] = teams * g.counters;
  sizes["streamed_bytes"] = grid_streamed_bytes(g);
  sizes["part_floats"] = teams * g.members * g.parts;
  return sizes;
}

inline void define_cuda_grid(py::module_& m) {
  using py::arg;
  m.def("cuda_grid_forward", cuda_grid_forward, arg("device"), arg("stream"), arg("dtype"),
        arg("cell"), arg("tf32"), arg("N"), arg("T"), arg("B"), arg("H"), arg("rows"),
        arg("layout"), arg("gates_x"), arg("bias"), arg("w_hh"), arg("peephole"), arg("vector_io"),
        arg("h0"), arg("c0"), arg("shared_start"), arg("lengths"), arg("reverse"), arg("h"),
        arg("h_n"), arg("c_n"), arg("gates"), arg("c"), arg("exchange"), arg("counters"),
        arg("streamed"), arg("budget_ns"));
  m.def("cuda_grid_backward", cuda_grid_backward, arg("device"), arg("stream"), arg("dtype"),
        arg("cell"), arg("tf32"), arg("N"), arg("T"), arg("B"), arg("H"), arg("rows"),
        arg("layout"), arg("w_hh"), arg("peephole"), arg("vector_io"), arg("c0"),
        arg("shared_start"), arg("lengths"), arg("reverse"), arg("gates"), arg("c"), arg("grad_h"),
        arg("grad_h_n"), arg("grad_c_n"), arg("d_gates"), arg("d_h0"), arg("d_c0"), arg("dc"),
        arg("vectors"), arg("sums"), arg("start_parts"), arg("arrivals"), arg("exchange"),
        arg("counters"), arg("streamed"), arg("parts"), arg("budget_ns"));
  m.def("cuda_grid_layout", cuda_grid_layout, arg("N"), arg("H"), arg("rows"), arg("width"),
        arg("tensor"), arg("backward"), arg("layout"));
}

}  // namespace bindings
}  // namespace lstmrep
