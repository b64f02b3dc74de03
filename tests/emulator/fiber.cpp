// Context switch in assembly, stacks, and what the sanitizers have to know of both.
#include "fiber.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <vector>

#include "sanitizers.h"

// Saves the callee-saved registers and the stack pointer, loads the other context's.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch,@function
emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

namespace emulator {
namespace {

constexpr uint64_t kCanary = 0x5AFE57ACC0FFEEull;
constexpr int kSavedRegisters = 6;  // what emulator_switch pops before it returns

struct Scheduler {  // the context that all fibers return to
  void* stack_pointer = nullptr;
  void* tsan = nullptr;
  void* asan = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
} home;

// Memory of their own for stacks, not the heap's: half a million of them among other things would
// stay there for good, and a process whose heap is larger than the machine's memory cannot fork.
// Nothing is reserved for them either, so that it can while they are there. AddressSanitizer clears
// the marks of frames on its own heap's blocks only.
char* new_stack() {
#ifdef EMULATOR_HAS_ASAN
  void* stack = malloc(kStackBytes);
#else
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (stack == MAP_FAILED) stack = nullptr;
#endif
  if (!stack) {
    fputs("emulator: no memory for the stack of one more thread\n", stderr);
    abort();
  }
  return static_cast<char*>(stack);
}

void delete_stack(char* stack) {
#ifdef EMULATOR_HAS_ASAN
  free(stack);
#else
  munmap(stack, kStackBytes);
#endif
}

// Stacks for the next launch. Not those of the largest launch for ever.
constexpr size_t kMostSpare = 2048;
std::vector<char*> spare_stacks;

char* take_stack() {
  if (spare_stacks.empty()) return new_stack();
  char* stack = spare_stacks.back();
  spare_stacks.pop_back();
  return stack;
}

}  // namespace

Fiber::Fiber(void (*entry)(), unsigned color) : stack_(take_stack()) {
  *reinterpret_cast<uint64_t*>(stack_ + kStackSlack) = kCanary;
  uintptr_t top = reinterpret_cast<uintptr_t>(stack_) + kStackBytes - color % 61 * 64;
  void** words = reinterpret_cast<void**>(top & ~uintptr_t{15});
  *--words = nullptr;  // where entry would return to: it does not, but the ABI aligns by it
  *--words = reinterpret_cast<void*>(entry);
  for (int j = 0; j < kSavedRegisters; ++j) *--words = nullptr;
  stack_pointer_ = words;
#ifdef EMULATOR_HAS_TSAN
  tsan_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#ifdef EMULATOR_HAS_TSAN
  __tsan_destroy_fiber(tsan_);
#endif
#ifdef EMULATOR_HAS_ASAN
  delete_stack(stack_);  // the next fiber's has no marks of this one's frames
#else
  if (spare_stacks.size() < kMostSpare) {
    spare_stacks.push_back(stack_);
  } else {
    delete_stack(stack_);
  }
#endif
}

void Fiber::resume() {
#ifdef EMULATOR_HAS_ASAN
  __sanitizer_start_switch_fiber(&home.asan, stack_, kStackBytes);
#endif
#ifdef EMULATOR_HAS_TSAN
  home.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_, __tsan_switch_to_fiber_no_sync);
#endif
  emulator_switch(&home.stack_pointer, stack_pointer_);
#ifdef EMULATOR_HAS_ASAN
  __sanitizer_finish_switch_fiber(home.asan, nullptr, nullptr);
#endif
}

void Fiber::leave(bool forever) {
  (void)forever;
#ifdef EMULATOR_HAS_ASAN
  __sanitizer_start_switch_fiber(forever ? nullptr : &asan_, home.bottom, home.size);
#endif
#ifdef EMULATOR_HAS_TSAN
  __tsan_switch_to_fiber(home.tsan, __tsan_switch_to_fiber_no_sync);
#endif
  emulator_switch(&stack_pointer_, home.stack_pointer);
#ifdef EMULATOR_HAS_ASAN
  __sanitizer_finish_switch_fiber(asan_, nullptr, nullptr);
#endif
}

void Fiber::entered() {
#ifdef EMULATOR_HAS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &home.bottom, &home.size);
#endif
}

bool Fiber::overflowed() const {
  return *reinterpret_cast<const uint64_t*>(stack_ + kStackSlack) != kCanary;
}

}  // namespace emulator
