// Reports the progress and speed of a run to its caller.
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
  double loss = 0;                               // of the last micro-batch
  std::optional<double> smoothed_loss = {};      // average over the last optimizer steps (train/loss_average.h)
  double bits_per_byte = 0;                      // of the smoothed loss, or before the first step of `loss`; meaningless with a loss of hooks
  double learning_rate = 0;                      // of the next optimizer step
  std::optional<double> gradient_norm = {};      // of the last optimizer step, before clipping
  double bytes_per_second = 0;                   // since the last report, excluding validation
  double seconds_left = 0;                       // estimated from the average pace of the run, including validation
};

// Each callback is optional. The training thread calls them. With several workers only the first one reports, but each one calls
// should_stop.
struct TrainerCallbacks {
  std::function<void(const TrainingProgress&)> on_progress = {};
  double progress_interval = 0.5;                            // seconds between two calls; the last micro-step is always reported
  std::function<void(const std::string& line)> on_log = {};  // each line of train.log
  std::function<void(const std::string& warning)> on_warning = {};
  // Returns whether to stop. Called before each micro-step and between the batches of a validation; with several workers at each
  // optimizer step and in validations that follow one. All workers stop together if one of them returns true.
  std::function<bool()> should_stop = {};
};

// Measures the bytes per second of a run, without validations.
class SpeedMeter {
 public:
  // For a run at `micro_step` with `bytes` bytes per micro-step. Shorter times than `shortest`, in seconds, are not measured.
  SpeedMeter(std::int64_t bytes, std::int64_t micro_step, double shortest = 0)
      : bytes_(static_cast<double>(bytes)), micro_step_(micro_step), shortest_(shortest) {}

  // The bytes per second since the last measurement, or since the construction, up to `micro_step`. Returns nothing, and measures nothing,
  // if that is too short.
  std::optional<double> take(std::int64_t micro_step);
  void leave_out(double seconds) { left_out_ += seconds; }

 private:
  using Clock = std::chrono::steady_clock;

  double bytes_;
  std::int64_t micro_step_;
  double shortest_;
  Clock::time_point taken_ = Clock::now();
  double left_out_ = 0;  // since taken_
};

// Calls on_progress at its interval.
class ProgressReporter {
 public:
  // For a run at `state` with `bytes` bytes per micro-step. The callbacks and the schedule must outlive this object.
  ProgressReporter(const TrainerCallbacks& callbacks, const Schedule& schedule, const TrainingState& state, std::int64_t bytes);

  // Whether to report after this micro-step: the interval is over, or it is the last one of the run.
  bool is_due(bool is_last) const;
  // `loss` belongs to the last micro-batch. The smoothed loss and the gradient norm are those of the state.
  void report(const TrainingState& state, double loss);
  // Excludes time from bytes_per_second.
  void leave_out(double seconds) { speed_.leave_out(seconds); }

 private:
  using Clock = std::chrono::steady_clock;

  const TrainerCallbacks& callbacks_;
  const Schedule& schedule_;
  const std::int64_t first_micro_step_;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point reported_ = started_;
  SpeedMeter speed_;
};

}  // namespace mblm
