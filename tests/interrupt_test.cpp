// Signals come to threads that do not compute.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "train/interrupt.h"

namespace mblm::testing {
namespace {

bool comes_to_this_thread(int signal) {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 0;
}

}  // namespace

TEST_CASE("a signal is noted, by another thread than those that compute") {
  for (const int signal : {SIGINT, SIGTERM}) {
    {
      const InterruptScope interrupt;
      CHECK(InterruptScope::signal() == 0);
      CHECK_FALSE(comes_to_this_thread(signal));
      std::thread([&] { CHECK_FALSE(comes_to_this_thread(signal)); }).join();
      kill(getpid(), signal);
      const auto start = std::chrono::steady_clock::now();
      while (InterruptScope::signal() == 0 && std::chrono::steady_clock::now() - start < std::chrono::seconds(10)) std::this_thread::yield();
      CHECK(InterruptScope::signal() == signal);
    }
    CHECK(comes_to_this_thread(signal));
  }
}

}  // namespace mblm::testing
