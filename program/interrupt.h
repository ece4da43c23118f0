// Treats SIGINT and SIGTERM as a request to stop, for work that must finish a step first.
#pragma once

#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace mblm {

// While a scope exists, the first SIGINT or SIGTERM is only recorded; a second one ends the program at once. The destructor
// restores the previous handlers. The library itself creates no scope. Create one at a time, in the thread that trains, and let
// TrainerCallbacks::should_stop check signal().
// A separate thread receives the signals, never the calling thread or a thread that it starts in the meantime: oneDNN's matrix
// products (2.6.3, AVX2 and newer) keep values below the stack pointer, where the system puts a handler's frame, and write past
// their memory when a handler interrupts them. A program with other handlers, for any signal, must keep them off computing threads
// in the same way, with pthread_sigmask. The threads that the engine starts run no handlers.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  static int signal();  // the signal received, 0 if none

 private:
  sigset_t blocked_before_{};  // signal mask of the calling thread before
  struct sigaction interrupt_before_{}, terminate_before_{};
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_over_ = false;
  std::thread listener_;  // only waits; the handlers run in this thread
};

}  // namespace mblm
