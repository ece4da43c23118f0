#include "train/progress.h"

#include <algorithm>
#include <numbers>

namespace mblm {
namespace {

template <class Time>
double seconds_between(Time from, Time to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

std::optional<double> SpeedMeter::take(std::int64_t micro_step) {
  const Clock::time_point now = Clock::now();
  const double seconds = std::max(1e-9, seconds_between(taken_, now) - left_out_);
  if (seconds < shortest_) return {};
  const double speed = static_cast<double>(micro_step - micro_step_) * bytes_ / seconds;
  micro_step_ = micro_step;
  taken_ = now;
  left_out_ = 0;
  return speed;
}

ProgressReporter::ProgressReporter(const TrainerCallbacks& callbacks, const Schedule& schedule, const TrainingState& state, std::int64_t bytes)
    : callbacks_(callbacks), schedule_(schedule), first_micro_step_(state.micro_step), speed_(bytes, state.micro_step) {}

bool ProgressReporter::is_due(bool is_last) const {
  return callbacks_.on_progress && (is_last || seconds_between(reported_, Clock::now()) >= callbacks_.progress_interval);
}

void ProgressReporter::report(const TrainingState& state, double loss) {
  const Clock::time_point now = Clock::now();
  const std::optional<double> smoothed = state.loss_average.value();
  const double pace = seconds_between(started_, now) / static_cast<double>(std::max<std::int64_t>(1, state.micro_step - first_micro_step_));
  const TrainingProgress progress{.step = state.steps,
                                  .steps = schedule_.steps(),
                                  .micro_step = state.micro_step,
                                  .micro_steps = schedule_.micro_steps(),
                                  .loss = loss,
                                  .smoothed_loss = smoothed,
                                  .bits_per_byte = smoothed.value_or(loss) / std::numbers::ln2,
                                  .learning_rate = schedule_.learning_rate(state.steps),
                                  .gradient_norm = state.gradient_norm < 0 ? std::nullopt : std::optional(state.gradient_norm),
                                  .bytes_per_second = speed_.take(state.micro_step).value_or(0),
                                  .seconds_left = pace * static_cast<double>(schedule_.micro_steps() - state.micro_step)};
  reported_ = now;
  callbacks_.on_progress(progress);
}

}  // namespace mblm
