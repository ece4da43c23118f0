#include "train/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace mblm {
namespace {

std::atomic<int> noted = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not wait");

extern "C" void note_signal(int signal) {
  if (noted.exchange(signal) != 0) _exit(128 + signal);
}

void handle(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;  // a write in progress goes on
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

InterruptScope::InterruptScope()
    : listener_([this] {
        std::unique_lock lock(mutex_);
        ended_.wait(lock, [this] { return is_over_; });
      }) {
  noted = 0;
  handle(note_signal);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

InterruptScope::~InterruptScope() {
  handle(SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  ended_.notify_one();
  listener_.join();
}

int InterruptScope::signal() { return noted; }

}  // namespace mblm
