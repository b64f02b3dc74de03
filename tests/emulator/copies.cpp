// The copies under way belong to the thread that issued them. This file is instrumented: a delivery
// is that thread's read and write.
#include "copies.h"

#include <stdint.h>
#include <string.h>

#include "grid.h"

namespace emulator {
namespace {

void deliver(const Copy& copy) {
  if (copy.filled) memcpy(copy.to, copy.from, copy.filled);
  if (copy.filled < copy.bytes) {
    memset(static_cast<char*>(copy.to) + copy.filled, 0, copy.bytes - copy.filled);
  }
}

}  // namespace

void async_copy(void* to, const void* from, unsigned bytes, unsigned filled) {
  if (reinterpret_cast<uintptr_t>(to) % bytes) fail("cp.async to an address that is not aligned");
  if (reinterpret_cast<uintptr_t>(from) % bytes) {
    fail("cp.async from an address that is not aligned");
  }
  if (filled > bytes) fail("cp.async of more bytes than it has");
  if (!in_shared(to, bytes)) fail("cp.async to an address outside shared memory");
  memset(to, 0xFF, bytes);
  Thread& t = self();
  const Copy copy{to, from, bytes, filled, t.copy_group};
  if (launch().seed % 2) {
    deliver(copy);
  } else {
    t.copies.push_back(copy);
  }
}

void async_commit() { ++self().copy_group; }

void async_wait(unsigned groups_left) {
  Thread& t = self();
  size_t kept = 0;
  for (const Copy& copy : t.copies) {
    if (copy.group + groups_left < t.copy_group) {
      deliver(copy);
    } else {
      t.copies[kept++] = copy;
    }
  }
  t.copies.resize(kept);
}

}  // namespace emulator
