// How a run reports to its caller: how far it is and how fast it goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "train/run_state.h"
#include "train/schedule.h"

namespace mblm {

struct TrainingProgress {
  std::int64_t step = 0, steps = 0;              // optimizer steps
  std::int64_t micro_step = 0, micro_steps = 0;
  double loss = 0, bits_per_byte = 0;            // of the last micro-batch
  double learning_rate = 0;                      // of the next optimizer step
  std::optional<double> gradient_norm = {};      // of the last optimizer step, before clipping
  double bytes_per_second = 0;                   // since the last report, without validation
  double seconds_left = 0;                       // at the pace of the run so far, validation included
};

// Each may be empty. They are called from the thread that runs the training; of several workers only the first one tells
// anything, but each is asked whether to stop.
struct TrainerCallbacks {
  std::function<void(const TrainingProgress&)> on_progress = {};
  double progress_interval = 0.5;                       // seconds between two calls; the last micro-step is always told
  std::function<void(const std::string& line)> on_log = {};  // what train.log gets
  std::function<void(const std::string& warning)> on_warning = {};
  // Asked before each micro-step, and between the batches of a validation. Several workers are asked at each optimizer step, and in
  // validations that come after one; they stop together as soon as one of them says so.
  std::function<bool()> should_stop = {};
};

// Calls on_progress at its interval.
class ProgressReporter {
 public:
  // For a run that is at `state`; each micro-step is of `bytes` bytes. The callbacks and the schedule must live as long as this.
  ProgressReporter(const TrainerCallbacks& callbacks, const Schedule& schedule, const TrainingState& state, std::int64_t bytes);

  // After a micro-step: the interval is over, or the run is at its end.
  bool is_due(const TrainingState& state) const;
  // `loss` is that of the last micro-batch, `gradient_norm` that of the last optimizer step.
  void report(const TrainingState& state, double loss, std::optional<double> gradient_norm);
  // Time that is not training's.
  void leave_out(double seconds) { left_out_ += seconds; }

 private:
  using Clock = std::chrono::steady_clock;

  const TrainerCallbacks& callbacks_;
  const Schedule& schedule_;
  const std::int64_t bytes_, first_micro_step_;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point reported_ = started_;
  std::int64_t reported_micro_step_ = first_micro_step_;
  double left_out_ = 0;  // since reported_
};

}  // namespace mblm
