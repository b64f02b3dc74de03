// Which of several CTAs comes last to a counter: it may read what all of them wrote before.
//
// So parts of a sum become one within a launch, whoever is last, in an order that does not depend
// on it. Nobody waits: the CTAs need not be resident together.
#pragma once

#include "cuda/primitives/memory_order.h"

namespace lstmrep {

// Called by all threads of each of `members` CTAs, once; true in all threads of the last one.
// counter: zero before the launch. What was written is read by load_coherent or its like.
LSTMREP_DEVICE bool arrives_last(uint32_t* counter, uint32_t members) {
  __syncthreads();  // what the block's threads wrote comes before the release
  bool last = false;
  if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
    last = add_acq_rel(counter, 1) == members - 1;
  }
  return __syncthreads_or(last) != 0;
}

}  // namespace lstmrep
