// One launch: threads, warps and blocks, all blocks resident at once, in an order drawn by a seed.
//
// The scheduler goes round the warps in random order (seed 0: as numbered) and runs each until
// none of its lanes can go on. A thread stops at a rendezvous (block barrier, warp collective) or
// when it polls memory. Everybody stopped is a deadlock; only polling for long is a livelock; both
// end the launch with an error that names a thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fiber.h"
#include "sanitizers.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

// Set by the scheduler each time a thread goes on.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr unsigned kWarp = 32;

// A place where a known number of threads meet; the last to arrive lets the others go on.
struct Rendezvous {
  unsigned arrived = 0, expected = 0;
  unsigned generation = 0;
  // Its address stands for the meeting in `release` and `acquire`. Two in turn: a thread that goes
  // on late must not acquire what others released at the next meeting.
  const char* token() const { return &tokens[generation % 2]; }
  char tokens[2] = {};
};

struct Warp {
  Rendezvous meeting;
  const void* operation = nullptr;  // the collective that its lanes are in
  void* argument[kWarp] = {};
};

struct Block {
  Rendezvous barrier;
  char* shared = nullptr;  // dynamic shared memory, NaN at first
  bool vote[2] = {};       // of __syncthreads_or, by the parity of the barrier's generation
  bool voting = false;     // the barrier under way is __syncthreads_or
  unsigned live = 0;
  std::vector<Warp> warps;
};

// A cp.async that has been issued and not been delivered.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  unsigned bytes, filled;
  unsigned group;
};

struct Thread {
  std::optional<Fiber> fiber;  // from the thread's first step to its last one
  unsigned color = 0;          // of the fiber
  dim3 index, block_index;
  unsigned lane = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  const Rendezvous* waits_at = nullptr;
  unsigned waits_for = 0;  // goes on when waits_at->generation is no longer this
  bool done = false;
  std::vector<Copy> copies;
  unsigned copy_group = 0;
};

struct Launch {
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
  unsigned seed = 0;
  const std::function<void()>* body = nullptr;
};

Thread& self();          // the running thread
const Launch& launch();  // the running launch

// Runs the grid to its end; the text of what went wrong, or "".
std::string run(const Launch& launch);

// Ends the launch with an error; called in a thread.
[[noreturn]] void fail(const std::string& what);

void meet(Rendezvous& at, unsigned expected);    // waits for the others
bool arrive(Rendezvous& at, unsigned expected);  // true for the last; the others must `wait`
void wait(Rendezvous& at);
void dismiss(Rendezvous& at);  // the last one lets the others go on
void poll();                   // before each look at memory that another thread will change

uint64_t nanoseconds();  // simulated: each poll of the running launch takes 1000

// Whether all these bytes lie in the dynamic shared memory of the running thread's block.
bool in_shared(const void* address, size_t bytes);

}  // namespace emulator
