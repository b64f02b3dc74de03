// Warp collectives and the block barrier, over the scheduler's rendezvous.
#include "collective.h"

namespace emulator {
namespace {

void no_operation(void**, unsigned) {}

void block_meet(bool voting) {
  Block& b = *self().block;
  if (b.barrier.arrived && b.voting != voting) {
    fail("a block is in __syncthreads and in __syncthreads_or");
  }
  b.voting = voting;
  meet(b.barrier, b.live);
}

}  // namespace

void collective(void (*operation)(void**, unsigned), unsigned mask, void* argument) {
  Thread& t = self();
  Warp& w = *t.warp;
  const void* name = reinterpret_cast<const void*>(operation);
  if (!(mask >> t.lane & 1)) fail("a lane is not in the mask of its own collective");
  if (w.meeting.arrived && w.operation != name) fail("lanes of one warp are in two collectives");
  w.operation = name;
  w.argument[t.lane] = argument;
  if (arrive(w.meeting, static_cast<unsigned>(__builtin_popcount(mask)))) {
    operation(w.argument, mask);
    dismiss(w.meeting);
  } else {
    wait(w.meeting);
  }
}

void block_barrier() { block_meet(false); }

bool block_or(bool vote) {
  Block& b = *self().block;
  const unsigned parity = b.barrier.generation % 2;
  if (b.barrier.arrived == 0) b.vote[parity] = false;
  b.vote[parity] = b.vote[parity] || vote;
  block_meet(true);
  return b.vote[parity];
}

void warp_barrier(unsigned mask) {
  const char* token = self().warp->meeting.token();
  release(token);
  collective(no_operation, mask, nullptr);
  acquire(token);
}

}  // namespace emulator
