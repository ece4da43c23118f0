// Stacks, and switching between them in a few nanoseconds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

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

// Makes `fiber` describe the calling thread's own stack, which new_fiber() did not allocate.
void adopt_thread(Fiber& fiber);

}  // namespace emulator

extern "C" void emulator_switch(void** save, void* load) __attribute__((visibility("hidden")));

namespace emulator {

// Saves the running code in `from` and continues `to`. Inline: each call in between would use more of the stack, and the stacks of a
// block compete for the cache.
inline void switch_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.bytes);
#endif
  emulator_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

// The first call of an entry function.
inline void enter_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace emulator
