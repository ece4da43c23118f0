// Tiles on several threads.
#include "engine/parallel.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/two_threads.h"

namespace mblm::testing {
namespace {

// Runs `check` with 1, 2, 3 and 8 threads.
template <class F>
void with_each_thread_count(F check) {
  const int before = thread_count();
  for (const int threads : {1, 2, 3, 8}) {
    CAPTURE(threads);
    set_thread_count(threads);
    REQUIRE(thread_count() == threads);
    check();
  }
  set_thread_count(before);
}

std::size_t used_address_space() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("tiles cover each index exactly once") {
  with_each_thread_count([] {
    for (const std::int64_t n : {0, 1, 31, 32, 33, 1000}) {
      for (const std::int64_t size : {1, 32, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n)), tiles(static_cast<std::size_t>(tile_count(n, size)));
        std::atomic<bool> in_place = true;
        parallel_tiles(n, size, [&](std::int64_t begin, std::int64_t end, std::int64_t tile) {
          if (begin != tile * size || end != std::min(n, begin + size)) in_place = false;
          ++tiles[static_cast<std::size_t>(tile)];
          for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        });
        CHECK(in_place);
        for (const auto& count : tiles) REQUIRE(count == 1);
        for (const auto& count : visits) REQUIRE(count == 1);
      }
    }
  });
}

TEST_CASE("short jobs in quick succession run each tile once") {
  const int before = thread_count();
  for (const int threads : {2, 3, 16}) {  // with more threads than processors some are always late, and others take their tiles
    CAPTURE(threads);
    set_thread_count(threads);
    std::vector<std::uint32_t> runs(40);
    std::uint32_t random = 1;
    const int jobs = threads == 16 ? 4000 : 40000;
    for (int job = 0; job < jobs; ++job) {
      random = random * 1664525u + 1013904223u;
      const std::int64_t tiles = 2 + random / 65536 % 39;
      const std::uint32_t pauses = random / 256 % 64;
      parallel_tiles(tiles, 1, [&](std::int64_t tile, std::int64_t, std::int64_t) {
        for (std::uint32_t i = 0; i < pauses * 10; ++i) asm volatile("");
        ++runs[static_cast<std::size_t>(tile)];  // without a lock: a second thread with the same tile is a data race
      });
      for (std::int64_t tile = 0; tile < tiles; ++tile) REQUIRE(std::exchange(runs[static_cast<std::size_t>(tile)], 0) == 1);
    }
  }
  set_thread_count(before);
}

TEST_CASE("more tiles than one job takes") {
  const int before = thread_count();
  set_thread_count(3);
  std::vector<std::atomic<int>> visits(200'000);
  parallel_tiles(200'000, 1, [&](std::int64_t tile, std::int64_t, std::int64_t) { ++visits[static_cast<std::size_t>(tile)]; });
  CHECK(std::all_of(visits.begin(), visits.end(), [](const std::atomic<int>& count) { return count == 1; }));
  set_thread_count(before);
}

TEST_CASE("an exception of a tile reaches the caller") {
  with_each_thread_count([] {
    const auto fail = [] {
      parallel_tiles(100, 1, [](std::int64_t begin, std::int64_t, std::int64_t) {
        if (begin == 57) throw std::runtime_error("tile 57");
      });
    };
    CHECK_THROWS_WITH_AS(fail(), "tile 57", std::runtime_error);
    std::atomic<int> sum = 0;  // the threads still serve the next call
    parallel_tiles(100, 1, [&](std::int64_t, std::int64_t, std::int64_t) { ++sum; });
    CHECK(sum == 100);
  });
}

TEST_CASE("an exception of a tile that a helper runs reaches the caller") {
  const int before = thread_count();
  set_thread_count(2);
  const std::thread::id caller = std::this_thread::get_id();
  for (int round = 0; round < 20; ++round) {
    const auto fail = [&] {
      on_two_threads([&] {
        if (std::this_thread::get_id() != caller) throw std::runtime_error("helper");
      });
    };
    CHECK_THROWS_WITH_AS(fail(), "helper", std::runtime_error);
  }
  set_thread_count(before);
}

TEST_CASE("nested tiles run sequentially on the thread of the outer tile") {
  with_each_thread_count([] {
    std::atomic<int> wrong = 0, inner_tiles = 0;
    parallel_tiles(8, 1, [&](std::int64_t, std::int64_t, std::int64_t) {
      const std::thread::id outer = std::this_thread::get_id();
      std::int64_t next = 0;
      parallel_tiles(10, 3, [&](std::int64_t, std::int64_t, std::int64_t tile) {
        if (std::this_thread::get_id() != outer || tile != next) ++wrong;
        ++next;
        ++inner_tiles;
      });
    });
    CHECK(wrong == 0);
    CHECK(inner_tiles == 32);
  });
}

TEST_CASE("several threads run tiles at the same time") {
  const int before = thread_count();
  set_thread_count(2);
  std::atomic<int> running = 0;
  on_two_threads([&] { ++running; });
  CHECK(running == 2);
  set_thread_count(before);
}

TEST_CASE("helper threads run no signal handlers") {
  const int before = thread_count();
  set_thread_count(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::atomic<int> open_to_signals = 0, open_to_faults = 0;
  on_two_threads([&] {
    if (std::this_thread::get_id() == caller) return;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM, SIGPROF, SIGCHLD}) open_to_signals += sigismember(&blocked, signal) == 0;
    open_to_faults += sigismember(&blocked, SIGSEGV) == 0;
  });
  CHECK(open_to_signals == 0);
  CHECK(open_to_faults == 1);
  set_thread_count(before);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers need address space
TEST_CASE("threads that the system refuses are done without") {
  const int before = thread_count();
  rlimit unlimited{};
  REQUIRE(getrlimit(RLIMIT_AS, &unlimited) == 0);
  std::thread([&] {  // a thread has its own helpers
    for (const std::size_t room : {std::size_t{100} << 20, std::size_t{2} << 20}) {  // bytes; a thread's stack has 8 MiB
      const rlimit limit{static_cast<rlim_t>(used_address_space() + room), unlimited.rlim_max};
      set_thread_count(room > (std::size_t{8} << 20) ? 1000 : 900);
      setrlimit(RLIMIT_AS, &limit);
      const int started = start_threads();
      setrlimit(RLIMIT_AS, &unlimited);
      CHECK(started >= 1);
      CHECK(started < 20);
      std::atomic<int> sum = 0;
      parallel_tiles(1000, 1, [&](std::int64_t, std::int64_t, std::int64_t) { ++sum; });
      CHECK(sum == 1000);
      CHECK(start_threads() == started);  // does not try again
    }
    set_thread_count(3);
    CHECK(start_threads() == 3);
  }).join();
  set_thread_count(before);
}
#endif

}  // namespace mblm::testing
