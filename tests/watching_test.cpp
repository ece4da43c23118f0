// What a run reports about itself: smoothed losses, hints, event files.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/temporary_folder.h"
#include "train/event_file.h"
#include "train/loss_hints.h"

namespace mblm::testing {
namespace {

RunConfig config_of_steps(std::int64_t steps) {
  RunConfig config;
  config.model.num_tokens = 256;
  config.input_seq_len = 16;
  config.train.max_steps = steps;
  config.train.warmup_steps_perc = 0;
  return config;
}

// The state after `steps` steps with the same loss.
TrainingState state_after(std::int64_t steps, double loss, std::int64_t skipped = 0) {
  TrainingState state;
  state.steps = steps;
  state.skipped_steps = skipped;
  for (std::int64_t i = skipped; i < steps; ++i) state.loss_average.add(loss);
  return state;
}

struct Watched {
  RunConfig config;
  Schedule schedule;
  LossHints hints;
  explicit Watched(std::int64_t steps, bool weighted = false, double warmup = 0)
      : config(with_warmup(config_of_steps(steps), warmup)), schedule(config.train, 16), hints(config, schedule, weighted) {}
  static RunConfig with_warmup(RunConfig config, double warmup) {
    config.train.warmup_steps_perc = warmup;
    return config;
  }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the smoothed loss has no bias at the start and forgets old losses") {
  LossAverage average;
  CHECK_FALSE(average.value().has_value());
  average.add(3);
  CHECK(*average.value() == doctest::Approx(3));
  average.add(5);
  CHECK(*average.value() == doctest::Approx((0.95 * 3 + 5) / 1.95));
  for (int i = 0; i < 1000; ++i) average.add(7);
  CHECK(*average.value() == doctest::Approx(7));
}

TEST_CASE("a loss above that of a uniform guess after warm-up gives one hint") {
  Watched run(1000, false, 0.1);
  CHECK(run.hints.take(state_after(149, 6)).empty());  // 100 steps of warm-up
  const std::vector<std::string> hints = run.hints.take(state_after(150, 6));
  REQUIRE(hints.size() == 1);
  CHECK(contains(hints[0], "6.000, is above that of a uniform guess over 256 ids, 5.545, after warm-up: lower train.learning_rate (now 0.001) or set train.gradient_clipping"));
  CHECK(run.hints.take(state_after(200, 6)).empty());
  CHECK(Watched(1000).hints.take(state_after(500, 5.5)).empty());
  CHECK(Watched(1000, true).hints.take(state_after(500, 6)).empty());
  CHECK(Watched(20).hints.take(state_after(19, 6)).empty());
  CHECK(Watched(20).hints.take(state_after(20, 6)).size() == 1);  // the end of a short run
}

TEST_CASE("skipped steps give a hint at the first one, and again when they are the most") {
  Watched run(1000);
  run.config.train.gradient_clipping = 5;
  CHECK(run.hints.take(state_after(1, 0, 0)).empty());
  const std::vector<std::string> first = run.hints.take(state_after(2, 3, 1));
  REQUIRE(first.size() == 1);
  CHECK(contains(first[0], "was not finite: lower train.learning_rate (now 0.001) or lower train.gradient_clipping (now 5)"));
  CHECK(run.hints.take(state_after(9, 3, 8)).empty());
  const std::vector<std::string> most = run.hints.take(state_after(11, 3, 6));
  REQUIRE(most.size() == 1);
  CHECK(contains(most[0], "6 of 11 optimizer steps were skipped"));
  CHECK(run.hints.take(state_after(12, 3, 7)).empty());
}

TEST_CASE("no byte that counts gives a hint") {
  Watched run(1000);
  CHECK(run.hints.take(state_after(9, 0)).empty());
  const std::vector<std::string> hints = run.hints.take(state_after(10, 0));
  REQUIRE(hints.size() == 1);
  CHECK(contains(hints[0], "no byte of the training data counts"));
  CHECK(Watched(1000).hints.take(state_after(10, 1e-300)).empty());
}

TEST_CASE("CRC-32C and records have the published values") {
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);  // RFC 3720, B.4
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  const std::string record = tf_record("abc");
  REQUIRE(record.size() == 8 + 4 + 3 + 4);
  CHECK(record.substr(0, 8) == std::string("\x03\0\0\0\0\0\0\0", 8));
  CHECK(record.substr(12, 3) == "abc");
  std::uint32_t masked = 0;
  std::memcpy(&masked, record.data() + 15, 4);
  const std::uint32_t rotated = masked - 0xa282ead8u;
  CHECK((rotated >> 17 | rotated << 15) == crc32c("abc"));
}

TEST_CASE("event files of a run sort by time") {
  const TemporaryFolder folder;
  const EventFile first(folder / "new/tensorboard", 0);
  EventFile second(folder / "new/tensorboard", 7);
  CHECK(first.path() < second.path());
  CHECK(contains(read_file(first.path()), "brain.Event:2"));
  second.write(7, {{"loss/training", 2.5}});
  CHECK(contains(read_file(second.path()), "loss/training"));
}

}  // namespace mblm::testing
