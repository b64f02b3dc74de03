// Blocks of memory for results. Those that are done with wait here for the next call.
//
// A training step needs gradients and saved gates of the sizes that the step before needed. Where
// the allocator gives such blocks back to the system in between, each page's first touch costs 1
// to 4 us again, which can take longer than the kernel that fills it.
#pragma once

#include <pthread.h>
#include <stdlib.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "common/pages.h"

namespace lstmrep {

class BlockPool {
 public:
  struct Block {
    void* address = nullptr;
    size_t bytes = 0;
  };
  // Bytes of waiting blocks that keep their pages, about what malloc may hold too; beyond them the
  // system may take pages, and beyond those blocks are given up, the oldest first.
  static constexpr size_t kKept = size_t{64} << 20, kWaiting = size_t{1} << 30;
  static constexpr size_t kLarge = size_t{4} << 20;  // two large pages

  // Of a process, and never gone: tensors may outlive this module's other objects.
  static BlockPool& shared() {
    static BlockPool& pool = *new BlockPool;
    return pool;
  }

  // At least `bytes`, uninitialised, at the start of a page; null where there is no memory.
  Block take(size_t bytes) {
    constexpr size_t kPage = 4096;
    bytes = (bytes + kPage - 1) / kPage * kPage;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      // The smallest that wastes at most a quarter; of equal ones that which came last.
      auto best = waiting_.end();
      for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
        const size_t size = it->block.bytes;
        if (size < bytes || size - bytes > bytes / 4) continue;
        if (best == waiting_.end() || size <= best->block.bytes) best = it;
      }
      if (best != waiting_.end()) {
        const Block found = best->block;
        forget(best);
        return found;
      }
    }
    const size_t alignment = bytes < kLarge ? kPage : size_t{2} << 20;
    void* address = nullptr;
    while (posix_memalign(&address, alignment, bytes)) {
      if (clear() == 0) return {};
    }
    if (bytes >= kLarge) advise_huge_pages(reinterpret_cast<uintptr_t>(address), bytes);
    return {address, bytes};
  }

  void give_back(Block block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back({block, false});
    bytes_ += block.bytes;
    kept_ += block.bytes;
    for (auto it = waiting_.begin(); kept_ > kKept;) {
      it = it->offered || offer(*it) ? it + 1 : give_up(it);
    }
    while (bytes_ > kWaiting) give_up(waiting_.begin());
  }

  // Gives up all that wait; returns how many bytes those were.
  size_t clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t bytes = bytes_;
    while (!waiting_.empty()) give_up(waiting_.begin());
    return bytes;
  }

 private:
  struct Waiting {
    Block block;
    bool offered;  // its pages, to the system
  };
  using Place = std::vector<Waiting>::iterator;

  BlockPool() {
    // A child of a fork must not meet a lock that a thread held which it does not have.
    pthread_atfork([] { shared().mutex_.lock(); }, [] { shared().mutex_.unlock(); },
                   [] { shared().mutex_.unlock(); });
  }

  bool offer(Waiting& one) {
    const Block block = one.block;
    if (block.bytes < kLarge) return false;
    one.offered = offer_pages(reinterpret_cast<uintptr_t>(block.address), block.bytes);
    if (one.offered) kept_ -= block.bytes;
    return one.offered;
  }

  // Both return what stands behind it.
  Place forget(Place place) {
    bytes_ -= place->block.bytes;
    if (!place->offered) kept_ -= place->block.bytes;
    return waiting_.erase(place);
  }
  Place give_up(Place place) {
    free(place->block.address);
    return forget(place);
  }

  std::mutex mutex_;
  std::vector<Waiting> waiting_;  // as they came back
  size_t bytes_ = 0, kept_ = 0;   // of all that wait, and of those not offered
};

}  // namespace lstmrep
