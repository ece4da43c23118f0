#include "train/progress.h"

#include <algorithm>

namespace mblm {

void ProgressClock::report(TrainingProgress& progress, std::int64_t bytes) {
  const Clock::time_point now = Clock::now();
  const double window = std::max(1e-9, seconds_between(told_, now) - left_out_);
  progress.bytes_per_second = static_cast<double>((progress.micro_step - told_micro_step_) * bytes) / window;
  const double pace = seconds_between(started_, now) / static_cast<double>(std::max<std::int64_t>(1, progress.micro_step - first_micro_step_));
  progress.seconds_left = pace * static_cast<double>(progress.micro_steps - progress.micro_step);
  told_ = now;
  told_micro_step_ = progress.micro_step;
  left_out_ = 0;
}

}  // namespace mblm
