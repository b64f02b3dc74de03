// The scheduler, and the two ways in which a thread gives up the core: a rendezvous and a poll.
#include "grid.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <random>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
namespace {

constexpr unsigned kIdleRounds = 1000;  // rounds of nothing but polling that count as a livelock
constexpr size_t kGuardBytes = 256;     // after shared memory, looked at when a thread stops
constexpr uint64_t kPollTime = 1000;    // nanoseconds
constexpr char kPoison = static_cast<char>(0xFF);  // NaN in every floating-point format
constexpr char kGuard = 0x5A;

Thread* current = nullptr;
const Launch* running = nullptr;
uint64_t clock_now = 0;
std::string error;

std::string place(const Thread& t) {
  auto text = [](const dim3& d) {
    return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) +
           ")";
  };
  return " [block " + text(t.block_index) + ", thread " + text(t.index) + "]";
}

void entry() {
  self().fiber->entered();
  (*running->body)();
  Thread& t = self();
  if (!t.copies.empty()) fail("a thread ends with cp.async copies that it never waited for");
  release(running);
  t.done = true;
  t.fiber->leave(true);
  abort();
}

bool guard_whole(const Block& b) {
#ifdef EMULATOR_HAS_ASAN
  (void)b;
  return true;
#else
  const char* guard = b.shared + running->shared;
  return guard[0] == kGuard && memcmp(guard, guard + 1, kGuardBytes - 1) == 0;
#endif
}

bool can_go_on(const Thread& t) {
  return !t.done && !(t.waits_at && t.waits_at->generation == t.waits_for);
}

// Runs one thread to its next stop; true when it did more than poll.
bool step(Thread& t) {
  const bool waited = t.waits_at != nullptr;
  if (!t.fiber) t.fiber.emplace(entry, t.color);
  current = &t;
  threadIdx = t.index;
  blockIdx = t.block_index;
  t.fiber->resume();
  current = nullptr;
  if (!error.empty()) return true;
  if (t.fiber->overflowed()) error = "a thread used more than its stack" + place(t);
  if (!guard_whole(*t.block)) error = "a thread wrote behind its shared memory" + place(t);
  if (t.done) {
    Block& b = *t.block;
    if (--b.live && b.barrier.arrived == b.live) {
      error = "a thread ended while its block waits in __syncthreads" + place(t);
    }
    // To ThreadSanitizer the next thread on this stack would be in a race with this one.
#ifndef EMULATOR_HAS_TSAN
    t.fiber.reset();
#endif
  }
  return waited || t.done || t.waits_at != nullptr;
}

class Grid {
 public:
  explicit Grid(const Launch& launch) : random_(launch.seed), shuffled_(launch.seed != 0) {
    const unsigned width = launch.block.x * launch.block.y * launch.block.z;
    const unsigned count = launch.grid.x * launch.grid.y * launch.grid.z;
    blocks_.resize(count);
    for (unsigned b = 0; b < count; ++b) {
      Block& block = blocks_[b];
      shared_.push_back(poisoned(launch.shared));
      block.shared = shared_.back();
      block.live = width;
      block.warps.resize((width + kWarp - 1) / kWarp);
      for (unsigned t = 0; t < width; ++t) {
        threads_.emplace_back(new Thread);
        Thread& thread = *threads_.back();
        thread.color = t * 5 + b * 3;
        thread.index = dim3(t % launch.block.x, t / launch.block.x % launch.block.y,
                            t / (launch.block.x * launch.block.y));
        thread.block_index = dim3(b % launch.grid.x, b / launch.grid.x % launch.grid.y,
                                  b / (launch.grid.x * launch.grid.y));
        thread.lane = t % kWarp;
        thread.block = &block;
        thread.warp = &block.warps[t / kWarp];
        if (t % kWarp == 0) warps_.emplace_back();
        warps_.back().push_back(&thread);
      }
    }
  }

  ~Grid() {
    for (char* memory : shared_) free(memory);
  }

  void run() {
    size_t live = threads_.size();
    unsigned idle = 0;
    while (live && error.empty()) {
      if (shuffled_) std::shuffle(warps_.begin(), warps_.end(), random_);
      bool ran = false, progress = false;
      for (std::vector<Thread*>& warp : warps_) {
        if (shuffled_) std::shuffle(warp.begin(), warp.end(), random_);
        for (bool again = true; again && error.empty();) {
          again = false;
          for (Thread* t : warp) {
            if (!can_go_on(*t)) continue;
            ran = true;
            if (step(*t)) progress = again = true;
            if (!error.empty()) return;
            if (t->done) --live;
          }
        }
      }
      if (!ran) error = "deadlock: every thread waits" + place(*stuck());
      idle = progress ? 0 : idle + 1;
      if (idle > kIdleRounds) error = "livelock: threads only poll" + place(*stuck());
    }
  }

 private:
  char* poisoned(size_t bytes) {
#ifdef EMULATOR_HAS_ASAN
    char* memory = static_cast<char*>(aligned_alloc(16, (bytes + 15) / 16 * 16));
#else
    const size_t whole = (bytes + kGuardBytes + 127) / 128 * 128;
    char* memory = static_cast<char*>(aligned_alloc(128, whole));
    std::fill(memory + bytes, memory + whole, kGuard);
#endif
    std::fill(memory, memory + bytes, kPoison);
    return memory;
  }

  const Thread* stuck() const {
    for (const auto& t : threads_) {
      if (!t->done) return t.get();
    }
    return threads_.front().get();
  }

  std::mt19937 random_;
  bool shuffled_;
  std::vector<Block> blocks_;
  std::vector<char*> shared_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<std::vector<Thread*>> warps_;
};

}  // namespace

Thread& self() { return *current; }
const Launch& launch() { return *running; }

std::string run(const Launch& launch) {
  running = &launch;
  blockDim = launch.block;
  gridDim = launch.grid;
  error.clear();
  clock_now = 0;
  release(&launch);  // what the host wrote is seen by every thread
  {
    Grid grid(launch);
    grid.run();
    acquire(&launch);  // before what the threads used is freed
  }
  running = nullptr;
  return error;
}

void fail(const std::string& what) {
  error = what + place(self());
  self().fiber->leave(true);
  abort();
}

bool arrive(Rendezvous& at, unsigned expected) {
  if (at.arrived == 0) at.expected = expected;
  if (at.expected != expected) fail("threads meet with different ideas of how many they are");
  return ++at.arrived == expected;
}

void dismiss(Rendezvous& at) {
  at.arrived = 0;
  ++at.generation;
}

void wait(Rendezvous& at) {
  Thread& t = self();
  t.waits_at = &at;
  t.waits_for = at.generation;
  t.fiber->leave(false);
  t.waits_at = nullptr;
}

void meet(Rendezvous& at, unsigned expected) {
  const char* token = at.token();
  release(token);
  if (arrive(at, expected)) {
    dismiss(at);
  } else {
    wait(at);
  }
  acquire(token);
}

void poll() {
  clock_now += kPollTime;
  self().fiber->leave(false);
}

uint64_t nanoseconds() { return clock_now; }

bool in_shared(const void* address, size_t bytes) {
  const char *first = static_cast<const char*>(address), *shared = self().block->shared;
  return first >= shared && first + bytes <= shared + running->shared;
}

}  // namespace emulator
