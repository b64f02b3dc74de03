// A machine context with a stack of its own, and the switch between it and the scheduler. x86-64.
//
// A fiber runs from `resume` to its next `leave`. Only one runs at a time; the scheduler decides
// which. Stacks are kept for the next launch.
#pragma once

#include <stddef.h>

namespace emulator {

constexpr size_t kStackBytes = 64 << 10;
// At the stack's end, not to be used: an overrun by less than this hits nothing else.
constexpr size_t kStackSlack = 4 << 10;

class Fiber {
 public:
  // entry must end in leave(true). color moves the stack's top, so that the fibers' frames do not
  // all fall into the same sets of the host's cache.
  Fiber(void (*entry)(), unsigned color);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();             // scheduler -> fiber
  void leave(bool forever);  // fiber -> scheduler; called on the running fiber
  void entered();            // first call inside entry
  bool overflowed() const;   // the word between stack and slack was overwritten

 private:
  void* stack_pointer_;
  char* stack_;
  void* tsan_ = nullptr;
  void* asan_ = nullptr;
};

}  // namespace emulator
