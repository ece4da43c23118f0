#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "engine/error.h"

namespace mblm {

std::int64_t elements_per_batch(const TrainConfig& config, std::int64_t length) {
  return config.target_elements_strategy == "sequence" ? config.batch_size * length : config.batch_size;
}

Schedule::Schedule(const TrainConfig& config, std::int64_t length, std::int64_t workers, std::optional<std::int64_t> epoch_micro_steps)
    : micro_steps_(std::numeric_limits<std::int64_t>::max()),
      peak_(config.learning_rate),
      minimum_(config.min_learning_rate),
      kind_(config.schedule) {
  require<ConfigError>(config.target_elements || config.max_steps || epoch_micro_steps,
                       "train: expected a length of the run (target_elements, max_steps or epochs), there is none");
  if (config.target_elements) {
    const std::int64_t target = *config.target_elements / workers, per_batch = elements_per_batch(config, length);
    micro_steps_ = target / per_batch + (target % per_batch != 0);
    require<ConfigError>(micro_steps_ >= 1, "train.target_elements: expected at least one element for each of ", workers, " workers, got ",
                         *config.target_elements);
  }
  std::int64_t of_steps = 0;
  if (config.max_steps && !__builtin_mul_overflow(*config.max_steps, config.gradient_accumulate_every, &of_steps))
    micro_steps_ = std::min(micro_steps_, of_steps);
  if (epoch_micro_steps) micro_steps_ = std::min(micro_steps_, *epoch_micro_steps);
  require<ConfigError>(micro_steps_ >= 1, "train.epochs: expected at least one batch, there is none");
  steps_ = micro_steps_ / config.gradient_accumulate_every;
  warmup_steps_ = static_cast<std::int64_t>(std::floor(static_cast<double>(steps_) * config.warmup_steps_perc));
}

double Schedule::configured_rate(std::int64_t step) const {
  if (step < warmup_steps_) return peak_ * (0.1 + 0.9 * static_cast<double>(step) / static_cast<double>(warmup_steps_));
  if (kind_ == "constant") return peak_;
  const double part = static_cast<double>(step - warmup_steps_) / static_cast<double>(std::max<std::int64_t>(1, steps_ - warmup_steps_));
  if (kind_ == "linear") return minimum_ + (peak_ - minimum_) * (1 - part);
  return minimum_ + (peak_ - minimum_) * (1 + std::cos(std::numbers::pi * part)) / 2;
}

std::vector<std::int64_t> spread_points(std::int64_t amount, std::int64_t n) {
  amount = std::min(amount, n);
  if (amount == 1) return {n - 1};
  std::vector<std::int64_t> points;
  // i (n - 1) / (amount - 1) without overflow.
  const std::int64_t gaps = std::max<std::int64_t>(1, amount - 1), whole = (n - 1) / gaps, rest = (n - 1) % gaps;
  for (std::int64_t i = 0; i < amount; ++i) points.push_back(i * whole + i * rest / gaps);
  return points;
}

}  // namespace mblm
