// cp.async: a copy that arrives at some time between its issue and the wait for its group.
//
// Under an even seed it arrives as late as allowed, the destination being poison until then, so
// that a missing wait shows. Under an odd seed it arrives at once, so that a buffer refilled while
// it is still being read shows.
#pragma once

namespace emulator {

// Copies `filled` of `bytes` bytes and zeros after them; addresses must be multiples of bytes.
void async_copy(void* to, const void* from, unsigned bytes, unsigned filled);
void async_commit();
void async_wait(unsigned groups_left);

}  // namespace emulator
