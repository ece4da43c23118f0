// Stacks, and switching between them in a few nanoseconds.
#pragma once

#include <cstddef>

namespace emulator {

inline constexpr std::size_t stack_bytes = 256 << 10;

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // the lowest address
  std::size_t bytes = 0;
};

// A fiber that calls `entry` when it is first switched to. The lowest page of its stack cannot be accessed. Never freed.
Fiber* new_fiber(void (*entry)(), unsigned number);
// Abandons what the fiber was doing, without unwinding.
void restart_fiber(Fiber& fiber, void (*entry)(), unsigned number);

// Describes the stack of the calling thread, which is no stack of new_fiber().
void adopt_thread(Fiber& fiber);

// Saves the running code in `from` and continues `to`.
void switch_fiber(Fiber& from, Fiber& to);
void enter_fiber();  // the first call of an entry function

}  // namespace emulator
