#include "program/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace mblm {
namespace {

std::atomic<int> noted = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not block");

extern "C" void note_signal(int signal) {
  if (noted.exchange(signal) != 0) _exit(128 + signal);
}

}  // namespace

InterruptScope::InterruptScope() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;  // an interrupted write continues
  sigaction(SIGINT, &action, &interrupt_before_);
  sigaction(SIGTERM, &action, &terminate_before_);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, &blocked_before_);
  listener_ = std::thread([this, signals] {
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return is_over_; });
  });
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
  pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  ended_.notify_one();
  listener_.join();
}

int InterruptScope::signal() { return noted; }

}  // namespace mblm
