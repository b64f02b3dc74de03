// Exchange between lanes of a warp; all 32 lanes take part.
#pragma once

#include "cuda/primitives/device.h"

namespace lstmrep {

// The value of the lane whose number differs by these bits.
LSTMREP_DEVICE float from_lane_xor(float x, int bits) {
  return __shfl_xor_sync(kAllLanes, x, bits);
}

LSTMREP_DEVICE uint32_t from_lane_xor(uint32_t x, int bits) {
  return __shfl_xor_sync(kAllLanes, x, bits);
}

// Sum over the four lanes of a quad (lane / 4), the same in each of them, in a fixed order.
LSTMREP_DEVICE float quad_sum(float x) {
  x += from_lane_xor(x, 1);
  return x + from_lane_xor(x, 2);
}

// Sum over the warp, the same bits in every lane: ((quads) + distance 4) + 8, + 16.
LSTMREP_DEVICE float warp_sum(float x) {
  x = quad_sum(x);
  x += from_lane_xor(x, 4);
  x += from_lane_xor(x, 8);
  return x + from_lane_xor(x, 16);
}

}  // namespace lstmrep
