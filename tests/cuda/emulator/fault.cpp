// Accesses that the processor refuses: the page behind shared memory, a full stack, device memory accessed by host code.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "tests/cuda/emulator/block.h"
#include "tests/cuda/emulator/memory.h"
#include "tests/cuda/emulator/poison.h"

namespace emulator {
namespace {

// An alternative stack is necessary where the fault is a full stack.
void provide_signal_stack() {
  thread_local const bool provided = [] {
    stack_t now;
    if (sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0) return true;
    constexpr std::size_t bytes = 64 << 10;
    static thread_local const std::unique_ptr<char[]> memory(new char[bytes]);
    stack_t mine = {};
    mine.ss_sp = memory.get();
    mine.ss_size = bytes;
    return sigaltstack(&mine, nullptr) == 0;
  }();
  static_cast<void>(provided);
}

struct sigaction before;

void on_fault(int signal, siginfo_t* info, void* context) {
  const void* address = info->si_addr;
  const void* pc = reinterpret_cast<const void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
  if (current != nullptr) {
    if (in_fiber_guard(address)) fail_at("the thread's stack is full", pc);
    if (is_near_shared(address)) fail_at("access outside of shared memory", pc);
    if (device_of(address) >= 0) fail_at("access outside of the memory of this device", pc);
    fail_at("access to an address that is not mapped", pc);
  }
  if (device_of(address) >= 0) {
    char text[128];
    const int n = std::snprintf(text, sizeof text, "emulator: host code accesses device memory at %p\n", address);
    static_cast<void>(!write(STDERR_FILENO, text, static_cast<std::size_t>(n)));
  }
  sigaction(signal, &before, nullptr);  // the access happens again, and its signal goes to whoever had it before
}

}  // namespace

void watch_faults() {
  if (has_address_sanitizer) return;  // it reports faults itself
  provide_signal_stack();
  struct sigaction mine = {}, old = {};
  mine.sa_sigaction = on_fault;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &mine, &old);
  if (old.sa_sigaction != on_fault) before = old;
}

}  // namespace emulator
