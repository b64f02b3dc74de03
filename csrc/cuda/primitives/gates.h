// The four gates of one element, H apart in memory, in the I/O type S.
#pragma once

#include "cell/lstm_cell.h"
#include "cuda/primitives/convert.h"

namespace lstmrep {

// first: gate i; h: from one gate to the next.
template <class S>
LSTMREP_INLINE void store_gates(S* first, int64_t h, const GateValues<float>& v) {
  first[0] = from_float<S>(v.i);
  first[h] = from_float<S>(v.f);
  first[2 * h] = from_float<S>(v.g);
  first[3 * h] = from_float<S>(v.o);
}

}  // namespace lstmrep
