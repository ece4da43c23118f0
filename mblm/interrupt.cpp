#include "mblm/interrupt.h"

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

InterruptScope::InterruptScope() {
  noted = 0;
  handle(note_signal);
}

InterruptScope::~InterruptScope() { handle(SIG_DFL); }

int InterruptScope::signal() { return noted; }

}  // namespace mblm
