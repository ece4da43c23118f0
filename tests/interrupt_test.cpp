// Signals are handled in threads that do not compute.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
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
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
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
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
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

TEST_CASE("repeated SIGHUP and SIGUSR1 do not end the program, and an ignored SIGHUP stays ignored") {
  const auto wait_for_signal = [] {
    const auto start = std::chrono::steady_clock::now();
    while (InterruptScope::signal() == 0 && std::chrono::steady_clock::now() - start < std::chrono::seconds(10)) std::this_thread::yield();
  };
  {
    const InterruptScope interrupt;
    for (const int signal : {SIGHUP, SIGUSR1, SIGHUP}) {
      kill(getpid(), signal);
      wait_for_signal();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    CHECK(InterruptScope::signal() != 0);
  }
  const auto before = std::signal(SIGHUP, SIG_IGN);  // nohup
  {
    const InterruptScope interrupt;
    kill(getpid(), SIGHUP);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(InterruptScope::signal() == 0);
    kill(getpid(), SIGUSR1);
    wait_for_signal();
    CHECK(InterruptScope::signal() == SIGUSR1);
  }
  const bool is_still_ignored = std::signal(SIGHUP, before) == SIG_IGN;
  CHECK(is_still_ignored);
}

}  // namespace mblm::testing
