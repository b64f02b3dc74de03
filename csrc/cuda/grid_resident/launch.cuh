// The launch rule of both passes: checks the layout, and that all CTAs are resident together.
#pragma once

#include "cuda/grid_resident/config.h"
#include "cuda/launch.h"
#include "cuda/recurrence/operand.cuh"

namespace lstmrep {
namespace cuda {

template <class Args>
using GridKernel = void (*)(Args);

inline void require_layout(bool held, const std::string& what) {
  if (!held)
    throw std::runtime_error("lstmrep: the layout of a grid_resident launch needs " + what);
}

template <class O, class Args>
void launch_grid(Counter counter, int device, void* stream, bool backward, GridKernel<Args> kernel,
                 Args args) {
  constexpr bool kTensor = OperandOf<O>::kTensor;
  const RecurrenceShape& s = args.call.shape;
  GridShape& g = args.grid;
  require_layout(kernel != nullptr,
                 "4 tiles, or 5 for 16-bit types, got " + std::to_string(g.tiles));
  require_layout(g.row_tiles >= 1 && g.row_tiles <= (kTensor ? kGridMostRowTiles : 1),
                 "1 or 2 row tiles, and 1 without tensor cores");
  require_layout(g.slots >= kGridLeastSlots && g.slots <= kGridMostSlots, "2 to 10 slots");
  require_layout(g.panels >= 1 && g.concurrent >= 1 && g.most_shared >= 0 && s.rows >= 1,
                 "panels, recurrences at a time and rows of at least 1");
  require_layout(
      int64_t{g.members} * g.panels * 4 * g.tiles >= s.h && (!backward || g.members % kGates == 0),
      "members that own all units, backward in groups of 4");
  require_layout(int64_t{g.replicas} * s.rows >= s.b, "replicas that own all rows");
  require_layout(int64_t{s.t} * ((s.rows + kGridRowTile - 1) / kGridRowTile) < (int64_t{1} << 30),
                 "fewer than 2^30 turns");
  require_layout((int64_t{s.rows} + 16) * (int64_t{s.h} + 64) < (int64_t{1} << 33),
                 "an operand of fewer than 2^33 elements");
  g = grid_layout(g, s.h, s.rows, sizeof(O), kTensor, backward);
  require_layout(g.streamed == 0 || args.memory.streamed != nullptr, "memory for streamed weights");
  if (s.b == 0) return;
  const DeviceGuard guard(device);
  const dim3 grid(g.members, g.replicas, g.concurrent);
  launch_together(counter, kernel, grid, kGridThreads, g.shared_bytes, device, stream, args);
}

}  // namespace cuda
}  // namespace lstmrep
