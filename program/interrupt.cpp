#include "program/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <system_error>

#include "engine/error.h"

namespace mblm {
namespace {

std::atomic<int> noted = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not block");

// A closing terminal sends SIGHUP more than once, and a batch system may repeat SIGUSR1: only the other two are commands to end at once.
extern "C" void note_signal(int signal) {
  const bool is_first = noted.exchange(signal) == 0;
  if (!is_first && (signal == SIGINT || signal == SIGTERM)) _exit(128 + signal);
}

bool is_ignored(int signal) {
  struct sigaction current {};
  return sigaction(signal, nullptr, &current) == 0 && current.sa_handler == SIG_IGN;
}

}  // namespace

InterruptScope::InterruptScope() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;  // an interrupted write continues
  sigset_t signals;
  sigemptyset(&signals);
  for (const StopSignal& stop : stop_signals) {
    struct sigaction before {};
    if (stop.number == SIGHUP && is_ignored(SIGHUP)) continue;  // nohup
    sigaction(stop.number, &action, &before);
    before_.emplace_back(stop.number, before);
    sigaddset(&signals, stop.number);
  }
  pthread_sigmask(SIG_BLOCK, &signals, &blocked_before_);
  try {
    listener_ = std::thread([this, signals] {
      pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
      std::unique_lock lock(mutex_);
      ended_.wait(lock, [this] { return is_over_; });
    });
  } catch (const std::system_error& error) {
    restore();
    throw Error(concat_text("cannot start a thread: ", error.code().message(), "; raise the limit on processes or memory, or lower --threads"));
  }
}

void InterruptScope::restore() {
  for (const auto& [number, before] : before_) sigaction(number, &before, nullptr);
  pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
}

InterruptScope::~InterruptScope() {
  restore();
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  ended_.notify_one();
  listener_.join();
}

int InterruptScope::signal() { return noted; }

}  // namespace mblm
