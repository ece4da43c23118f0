// Signals are handled in threads that do not compute.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "program/interrupt.h"

namespace mblm::testing {
namespace {

bool reaches_this_thread(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 0;
}

std::atomic<int> handled = 0;
extern "C" void handle_here(int) { ++handled; }

}  // namespace

TEST_CASE("the previous handlers are restored") {
  struct sigaction own {}, before {};
  own.sa_handler = handle_here;
  for (const int signal : {SIGINT, SIGTERM}) {
    handled = 0;
    sigaction(signal, &own, &before);
    {
      const InterruptScope interrupt;
    }
    raise(signal);
    CHECK(handled == 1);
    sigaction(signal, &before, nullptr);
  }
}

TEST_CASE("a thread that does not compute records a signal") {
  for (const bool was_unblocked : {true, false}) {
    for (const int signal : {SIGINT, SIGTERM}) {
      sigset_t signals, before;
      sigemptyset(&signals);
      sigaddset(&signals, signal);
      pthread_sigmask(was_unblocked ? SIG_UNBLOCK : SIG_BLOCK, &signals, &before);
      {
        const InterruptScope interrupt;
        CHECK(InterruptScope::signal() == 0);
        CHECK_FALSE(reaches_this_thread(signal));
        std::thread([&] { CHECK_FALSE(reaches_this_thread(signal)); }).join();
        kill(getpid(), signal);
        const auto start = std::chrono::steady_clock::now();
        while (InterruptScope::signal() == 0 && std::chrono::steady_clock::now() - start < std::chrono::seconds(10)) std::this_thread::yield();
        CHECK(InterruptScope::signal() == signal);
      }
      CHECK(reaches_this_thread(signal) == was_unblocked);
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
}

}  // namespace mblm::testing
