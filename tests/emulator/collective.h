// What the lanes of a warp do together, and the barrier of a block.
//
// A collective takes each lane's argument; the last lane to come runs the operation over all of
// them. It orders no memory (to ThreadSanitizer either): only __syncwarp and __syncthreads do.
#pragma once

#include "grid.h"

namespace emulator {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// operation: a function over the arguments of all lanes in mask, marked EMULATOR_UNCHECKED. Its
// address tells collectives apart: lanes of one warp in two different ones are an error.
void collective(void (*operation)(void** arguments, unsigned mask), unsigned mask, void* argument);

void block_barrier();
bool block_or(bool vote);  // the barrier, and whether any thread votes for
void warp_barrier(unsigned mask);

template <class V>
struct ShuffleArgument {
  V value, result;
  int lane_mask;
};

template <class V>
EMULATOR_UNCHECKED void shuffle_xor_operation(void** arguments, unsigned mask) {
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(mask >> lane & 1)) continue;
    auto* mine = static_cast<ShuffleArgument<V>*>(arguments[lane]);
    const unsigned other = lane ^ static_cast<unsigned>(mine->lane_mask);
    if (other >= kWarp || !(mask >> other & 1))
      fail("__shfl_xor_sync from a lane outside the mask");
    mine->result = static_cast<ShuffleArgument<V>*>(arguments[other])->value;
  }
}

}  // namespace emulator

inline void __syncthreads() { emulator::block_barrier(); }
inline int __syncthreads_or(int vote) { return emulator::block_or(vote != 0); }
inline void __syncwarp(unsigned mask = emulator::kAllLanes) { emulator::warp_barrier(mask); }

template <class V>
inline V __shfl_xor_sync(unsigned mask, V value, int lane_mask) {
  emulator::ShuffleArgument<V> argument{value, value, lane_mask};
  emulator::collective(emulator::shuffle_xor_operation<V>, mask, &argument);
  return argument.result;
}
