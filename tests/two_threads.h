// Code that two threads run at the same time.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "engine/parallel.h"

namespace mblm::testing {

// Runs f() on this thread and on a helper at the same time, as two tiles; the thread count is at least 2. Tries again when one thread got
// both tiles: on a busy machine parallel_tiles calls no helper for up to a second. Throws what f throws.
template <class F>
void on_two_threads(F f) {
  enum State { Waiting, Met, GaveUp };
  constexpr int tries = 200;
  constexpr std::chrono::milliseconds patience{100};
  for (int i = 0; i < tries; ++i) {
    std::atomic<int> arrived = 0, state = Waiting;
    parallel_tiles(2, 1, [&](std::int64_t, std::int64_t, std::int64_t) {
      int waiting = Waiting;
      if (++arrived == 2) {
        state.compare_exchange_strong(waiting, Met);
      } else {
        const auto end = std::chrono::steady_clock::now() + patience;
        while (state == Waiting && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        state.compare_exchange_strong(waiting, GaveUp);
      }
      if (state == Met) f();
    });
    if (state == Met) return;
  }
  FAIL("parallel_tiles never used two threads");
}

}  // namespace mblm::testing
