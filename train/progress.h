// How a run reports to its caller: how far it is and how fast it goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

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

// The clock of the reports.
class ProgressClock {
 public:
  // A report is due `interval` seconds after the last one; the first `micro_step` micro-steps were done before.
  ProgressClock(double interval, std::int64_t micro_step) : interval_(interval), first_micro_step_(micro_step) {}

  bool due() const { return seconds_between(told_, Clock::now()) >= interval_; }
  // Time that is not training's.
  void leave_out(double seconds) { left_out_ += seconds; }
  // Fills the rates of a report after `micro_step` of `micro_steps` micro-batches of `bytes` bytes, and starts the next interval.
  void report(TrainingProgress& progress, std::int64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_between(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double>(to - from).count(); }

  const double interval_;
  const std::int64_t first_micro_step_;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point told_ = started_;
  std::int64_t told_micro_step_ = first_micro_step_;
  double left_out_ = 0;  // since told_
};

}  // namespace mblm
