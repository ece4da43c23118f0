// SIGINT and SIGTERM as a wish to stop, for work that has something to bring to an end first.
#pragma once

#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace mblm {

// While it lives, the first SIGINT or SIGTERM is only noted; a second one ends the program at once. Afterwards handlers are those
// from before. The library itself makes none. Make one at a time, in the thread that trains, and let TrainerCallbacks::should_stop
// ask signal().
// The signals come to a thread of its own, not to the calling thread and those that it starts meanwhile: oneDNN's products (2.6.3,
// AVX2 and up) have numbers below the stack pointer where the system puts a handler's frame, and write past their memory when a
// handler interrupts them. Handlers of a program's own, for any signal, must be kept from a thread that computes in the same way:
// by pthread_sigmask. The threads that the engine starts run no handlers.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  static int signal();  // the signal that came, 0 for none

 private:
  sigset_t blocked_before_{};  // the signals that the calling thread did not get
  struct sigaction interrupt_before_{}, terminate_before_{};
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_over_ = false;
  std::thread listener_;  // waits; handlers run in it
};

}  // namespace mblm
