// Inside of the emulator: the launch that runs.
#pragma once

#include <string>

#include "tests/cuda/emulator/lane.h"

namespace emulator {

// Ends the launch with an error at the code address `pc`, which is turned into a line. For errors found by a fault or an access.
[[noreturn]] void fail_at(const std::string& what, const void* pc);

// Throws Error for a launch that a GPU would refuse.
void check_launch(const char* name, Dim grid, Dim block, std::size_t shared_bytes);

Lane& lane_of_block(unsigned index);
bool in_fiber_guard(const void* p);      // below the stack of the lane that runs
bool is_near_shared(const void* p);      // in the pages around shared memory
void prepare_shared(std::size_t bytes);  // for a launch
void poison_shared();                    // for a block

// The smallest random generator that is good enough (SplitMix64).
struct Random {
  std::uint64_t state = 0;
  std::uint64_t next() {
    std::uint64_t x = state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
};

}  // namespace emulator
