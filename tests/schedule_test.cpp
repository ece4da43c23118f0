// The schedule of a run: length, learning rates, and points of validation and logging.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "engine/error.h"
#include "train/schedule.h"

namespace mblm::testing {
namespace {

TrainConfig recipe(std::int64_t micro_steps, std::int64_t accumulate, double warmup) {
  TrainConfig config;
  config.target_elements = micro_steps;
  config.gradient_accumulate_every = accumulate;
  config.warmup_steps_perc = warmup;
  config.learning_rate = 2e-3;
  return config;
}

}  // namespace

TEST_CASE("the number of steps is determined by the elements") {
  TrainConfig config;
  config.target_elements = 1001;
  config.batch_size = 10;
  config.gradient_accumulate_every = 4;
  CHECK(Schedule(config, 50).micro_steps() == 101);
  CHECK(Schedule(config, 50).steps() == 25);
  CHECK(Schedule(config, 50, 3).micro_steps() == 34);  // ceil(333 / 10)
  CHECK(Schedule(config, 50, 2).micro_steps() == 50);  // ceil(500 / 10): the odd element is dropped
  config.target_elements_strategy = "sequence";
  CHECK(Schedule(config, 50).micro_steps() == 3);  // ceil(1001 / 500)
  CHECK(Schedule(config, 50).steps() == 0);
  CHECK_THROWS_AS(Schedule(config, 50, 1002), ConfigError);
}

// Values from `learning_rates` of the golden cases train_t2d and train_m1, computed by PyTorch's LinearLR and CosineAnnealingLR.
TEST_CASE("learning rates equal those of the Python package") {
  const Schedule t2d(recipe(80, 2, 0.1), 128), m1(recipe(30, 1, 0.2), 64);
  CHECK(t2d.warmup_steps() == 4);
  CHECK(m1.warmup_steps() == 6);
  const auto same = [](double ours, double theirs) { return ours == doctest::Approx(theirs).epsilon(1e-7); };
  CHECK(same(t2d.learning_rate(0), 0.00019999999494757503));
  CHECK(same(t2d.learning_rate(1), 0.0006500000017695129));
  CHECK(same(t2d.learning_rate(3), 0.001550000044517219));
  CHECK(same(t2d.learning_rate(4), 0.0020000000949949026));
  CHECK(same(t2d.learning_rate(5), 0.0019961947109550238));
  CHECK(same(t2d.learning_rate(20), 0.0011736481683328748));
  CHECK(same(t2d.learning_rate(39), 3.80530195798201e-06));
  CHECK(same(m1.learning_rate(4), 0.00139999995008111));
  CHECK(same(m1.learning_rate(20), 0.0007411809638142586));
  CHECK(same(m1.learning_rate(29), 8.555138265364803e-06));
}

TEST_CASE("without warm-up the first step has the full rate, and warm-up only does not divide by zero") {
  CHECK(Schedule(recipe(10, 1, 0), 1).learning_rate(0) == 2e-3);
  const Schedule only(recipe(10, 1, 1), 1);
  CHECK(only.warmup_steps() == 10);
  CHECK(only.learning_rate(9) == doctest::Approx(2e-3 * 0.91));
  CHECK(only.learning_rate(10) == 2e-3);
  CHECK(Schedule(recipe(1, 2, 0.1), 1).learning_rate(0) == 2e-3);  // zero optimizer steps
}

TEST_CASE("the shortest of the limits is the length") {
  TrainConfig config;
  config.gradient_accumulate_every = 4;
  CHECK_THROWS_AS(Schedule(config, 1), ConfigError);
  config.max_steps = 7;
  CHECK(Schedule(config, 1).micro_steps() == 28);
  CHECK(Schedule(config, 1).steps() == 7);
  CHECK(Schedule(config, 1, 3).micro_steps() == 28);
  config.target_elements = 20;
  CHECK(Schedule(config, 1).micro_steps() == 20);
  CHECK(Schedule(config, 1, 2).micro_steps() == 10);
  CHECK(Schedule(config, 1, 1, 11).micro_steps() == 11);
  CHECK(Schedule(config, 1, 1, 11).steps() == 2);
  CHECK(Schedule(config, 1, 1, 100).micro_steps() == 20);
  config.max_steps = std::numeric_limits<std::int64_t>::max();  // more micro-steps than a 64-bit integer counts
  CHECK(Schedule(config, 1).micro_steps() == 20);
}

TEST_CASE("linear and constant schedules, and a minimum rate") {
  TrainConfig config = recipe(10, 1, 0.2);
  config.min_learning_rate = 1e-3;
  const auto rate = [&](const char* kind, std::int64_t step) {
    config.schedule = kind;
    return Schedule(config, 1).learning_rate(step);
  };
  for (const char* kind : {"cosine", "linear", "constant"}) {
    CHECK(rate(kind, 0) == doctest::Approx(0.1 * 2e-3));
    CHECK(rate(kind, 1) == doctest::Approx(0.55 * 2e-3));
    CHECK(rate(kind, 2) == 2e-3);
  }
  CHECK(rate("cosine", 4) == doctest::Approx(1e-3 + 1e-3 * (1 + std::cos(std::numbers::pi / 4)) / 2));
  CHECK(rate("cosine", 10) == doctest::Approx(1e-3));
  CHECK(rate("linear", 4) == doctest::Approx(1.75e-3));
  CHECK(rate("linear", 10) == doctest::Approx(1e-3));
  CHECK(rate("constant", 9) == 2e-3);
  config.min_learning_rate = 0;
  CHECK(rate("linear", 10) == 0);
}

TEST_CASE("a run that gets another length keeps its warm-up steps") {
  Schedule schedule(recipe(100, 1, 0.1), 1);
  CHECK(schedule.warmup_steps() == 10);
  schedule.keep_warmup(4);
  CHECK(schedule.learning_rate(4) == 2e-3);
  CHECK(schedule.learning_rate(52) == doctest::Approx(1e-3));
  schedule.keep_warmup(200);
  CHECK(schedule.warmup_steps() == 100);
}

TEST_CASE("points are evenly spaced from the first to the last") {
  using Points = std::vector<std::int64_t>;
  CHECK(spread_points(0, 10) == Points{});
  CHECK(spread_points(1, 10) == Points{9});
  CHECK(spread_points(1, 1) == Points{0});
  CHECK(spread_points(2, 10) == Points{0, 9});
  CHECK(spread_points(4, 11) == Points{0, 3, 6, 10});
  CHECK(spread_points(5, 10) == Points{0, 2, 4, 6, 9});
  CHECK(spread_points(10, 10) == Points{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(spread_points(7, 3) == Points{0, 1, 2});
  CHECK(spread_points(3, 4'000'000'000'000'000'001) == Points{0, 2'000'000'000'000'000'000, 4'000'000'000'000'000'000});
}

}  // namespace mblm::testing
