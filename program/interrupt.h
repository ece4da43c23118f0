// Treats some signals as a request to stop, for work that must finish a step first.
#pragma once

#include <signal.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace mblm {

struct StopSignal {
  int number;
  const char* name;
};
// SIGUSR1: batch systems announce the end of a job with it. SIGHUP: the terminal was closed.
inline constexpr StopSignal stop_signals[] = {{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}, {SIGUSR1, "SIGUSR1"}};

// While a scope exists, the first of these signals is only recorded; a further SIGINT or SIGTERM ends the program at once. SIGHUP has no
// effect if the program was started to ignore it (nohup). The destructor restores the previous handlers. The library itself creates no
// scope. Create one at a time, in the thread that trains, and let TrainerCallbacks::should_stop check signal().
// A separate thread receives the signals, never the calling thread or a thread that it starts in the meantime: oneDNN's matrix
// products (2.6.3, AVX2 and newer) keep values below the stack pointer, where the system puts a handler's frame, and write past
// their memory when a handler interrupts them. A program with other handlers, for any signal, must keep them off computing threads
// in the same way, with pthread_sigmask. The threads that the engine starts run no handlers.
class InterruptScope {
 public:
  // Throws Error if the system refuses a thread.
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  static int signal();  // the signal received, 0 if none

 private:
  void restore();  // the handlers and the signal mask

  sigset_t blocked_before_{};                              // signal mask of the calling thread before
  std::vector<std::pair<int, struct sigaction>> before_;  // handlers before
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_over_ = false;
  std::thread listener_;  // only waits; the handlers run in this thread
};

}  // namespace mblm
