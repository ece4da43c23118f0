// The floating-point mode in which kernels and tiles run.
#include "engine/tiny_numbers.h"

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "engine/kernel.h"
#include "engine/parallel.h"
#include "tests/two_threads.h"

namespace mblm::testing {
namespace {

// Whether this thread flushes results, and treats operands as zero. Not inlined: the compiler may otherwise move the arithmetic.
[[gnu::noinline]] bool flushes_results() {
  volatile float smallest_normal = 0x1p-126f, quarter = 0.25f;
  volatile float product = smallest_normal * quarter;
  return product == 0.0f;
}
[[gnu::noinline]] bool ignores_operands() {
  volatile float tiny = 0x1p-130f, large = 0x1p20f;
  volatile float product = tiny * large;
  return product == 0.0f;
}
bool is_in_mode() { return flushes_results() && ignores_operands(); }
bool is_in_default_mode() { return !flushes_results() && !ignores_operands(); }

std::atomic<int> calls_in_mode = 0;
constinit Kernel<void(const Tensor&, bool)> test_mode{"test_mode"};
const bool added = test_mode.add(DeviceKind::Cpu, {DType::Float32}, [](const Tensor&, bool fails) {
  calls_in_mode += is_in_mode();
  if (fails) throw std::runtime_error("kernel");
});

}  // namespace

TEST_CASE("the mode of tiny numbers is restored") {
  REQUIRE(is_in_default_mode());
  {
    const TinyNumbersAsZero mode;
    CHECK(is_in_mode());
    {
      const TinyNumbersAsZero inner;
      CHECK(is_in_mode());
    }
    CHECK(is_in_mode());
    std::thread([] { CHECK((is_in_mode() || is_in_default_mode())); }).join();
  }
  CHECK(is_in_default_mode());
}

TEST_CASE("tiles and kernels treat tiny numbers as zero, whatever the mode of the caller") {
  REQUIRE(added);
  const int before = thread_count();
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    set_thread_count(threads);
    for (const std::int64_t tiles : {1, 64}) {
      std::atomic<int> in_mode = 0, nested_in_mode = 0;
      parallel_tiles(tiles, 1, [&](std::int64_t, std::int64_t, std::int64_t) {
        in_mode += is_in_mode();
        parallel_tiles(2, 1, [&](std::int64_t, std::int64_t, std::int64_t) { nested_in_mode += is_in_mode(); });
        in_mode += is_in_mode();
      });
      CHECK(in_mode == 2 * tiles);
      CHECK(nested_in_mode == 2 * tiles);
      CHECK(is_in_default_mode());
    }
    CHECK_THROWS(parallel_tiles(8, 1, [](std::int64_t, std::int64_t, std::int64_t) { throw std::runtime_error("tile"); }));
    CHECK(is_in_default_mode());
  }
  // A helper runs in the mode too.
  set_thread_count(2);
  std::atomic<int> in_mode = 0;
  on_two_threads([&] { in_mode += is_in_mode(); });
  CHECK(in_mode == 2);
  set_thread_count(before);

  calls_in_mode = 0;
  const Tensor x = zeros(Shape{1}, DType::Float32);
  test_mode(x, false);
  CHECK(is_in_default_mode());
  CHECK_THROWS(test_mode(x, true));
  CHECK(is_in_default_mode());
  CHECK(calls_in_mode == 2);
}

}  // namespace mblm::testing
