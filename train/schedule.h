// The schedule of a run: its length, learning rates, and points of validation and logging.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mblm/config/config.h"

namespace mblm {

// Number of elements in a micro-batch: its sequences, or their bytes if target_elements_strategy is `sequence`.
std::int64_t elements_per_batch(const TrainConfig& config, std::int64_t length);

// A learning rate of a program's own: that of optimizer step `step` of `steps`, counted from 0, where the configured schedule has
// `configured`. Must be a function of its arguments: a resumed run asks again for the same steps.
using LearningRateFunction = std::function<double(std::int64_t step, std::int64_t steps, double configured)>;

class Schedule {
 public:
  // The schedule of each of `workers` workers for sequences of `length` ids. The number of micro-steps is the smallest of
  // ceil(floor(target_elements / workers) / elements per batch), max_steps * gradient_accumulate_every and `epoch_micro_steps` (those
  // of config.epochs), where these are set; optimizer steps = floor(micro-steps / gradient_accumulate_every). Throws ConfigError if
  // there are no micro-steps.
  Schedule(const TrainConfig& config, std::int64_t length, std::int64_t workers = 1, std::optional<std::int64_t> epoch_micro_steps = {});

  std::int64_t micro_steps() const { return micro_steps_; }
  std::int64_t steps() const { return steps_; }
  std::int64_t warmup_steps() const { return warmup_steps_; }
  // Keeps the number of warm-up steps that a run started with, when the run gets another length.
  void keep_warmup(std::int64_t steps) { warmup_steps_ = std::min(steps, steps_); }

  // The learning rate of optimizer step `step`, counted from 0. With w = floor(steps * warmup_steps_perc) warm-up steps, the peak rate
  // p is multiplied by 0.1 + 0.9 step / w before step w. From step w on, with x = (step - w) / (steps - w) and the minimum rate m, the
  // rate is m + (p - m) (1 + cos(pi x)) / 2 for the schedule `cosine`, m + (p - m) (1 - x) for `linear`, and p for `constant`.
  // With replace_learning_rate, that of the function.
  double learning_rate(std::int64_t step) const { return own_rate_ ? own_rate_(step, steps_, configured_rate(step)) : configured_rate(step); }
  void replace_learning_rate(LearningRateFunction own) { own_rate_ = std::move(own); }

 private:
  double configured_rate(std::int64_t step) const;

  std::int64_t micro_steps_ = 0, steps_ = 0, warmup_steps_ = 0;
  double peak_, minimum_;
  std::string kind_;
  LearningRateFunction own_rate_;
};

// Returns `amount` of the numbers 0 .. n-1 in ascending order, evenly spaced and rounded down, including the first and the last (only
// the last for amount 1). Returns all numbers if amount >= n.
std::vector<std::int64_t> spread_points(std::int64_t amount, std::int64_t n);

}  // namespace mblm
