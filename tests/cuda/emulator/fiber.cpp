#include "tests/cuda/emulator/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <new>

#include "tests/cuda/emulator/poison.h"

// Saves the registers that a function must preserve, on the old stack, and restores those on the new one. The last jump is
// indirect, because the processor predicts it better than a return to an address that no call has pushed.
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size emulator_switch,.-emulator_switch
)");

namespace emulator {

constexpr std::size_t page = 4096;
constexpr int saved_registers = 6;

Fiber* new_fiber(void (*entry)(), unsigned number) {
  auto* fiber = new Fiber;
  void* stack = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) throw std::bad_alloc();
  fiber->stack = static_cast<char*>(stack);
  fiber->bytes = stack_bytes;
  mprotect(stack, page, PROT_NONE);
  restart_fiber(*fiber, entry, number);
  return fiber;
}

void restart_fiber(Fiber& fiber, void (*entry)(), unsigned number) {
  unpoison(fiber.stack + page, stack_bytes - page);
  // Stacks start at different offsets within a page, so that they do not compete for the same sets of the cache.
  void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes - 64 - number % 61 * 64);
  *--top = nullptr;  // the return address of `entry`, which never returns
  *--top = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = top - saved_registers;
}

void adopt_thread(Fiber& fiber) {
  thread_local const Fiber bounds = [] {
    Fiber found;
    pthread_attr_t attributes;
    void* stack = nullptr;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &found.bytes);
    pthread_attr_destroy(&attributes);
    found.stack = static_cast<char*>(stack);
    return found;
  }();
  fiber = bounds;
}

}  // namespace emulator
