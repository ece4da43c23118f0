// Hints for a person whose loss does not fall.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "train/run_state.h"
#include "train/schedule.h"

namespace mblm {

// What to change if a loss or gradient is not finite.
std::string nonfinite_remedy(const TrainConfig& train);

// Watches the state of a run. Each hint is one line and comes once per process:
//  * an optimizer step was skipped, since its loss or gradient was not finite;
//  * more than half of at least 10 steps were skipped;
//  * the loss of all of at least 10 steps is exactly 0: no byte counts;
//  * the smoothed loss is above that of a uniform guess, ln(num_tokens), 50 steps after warm-up, or at the end of a shorter run if its
//    last 10 steps were after warm-up. `weighted`: the data set weights the bytes, so that its loss has no such bound.
class LossHints {
 public:
  // The config and the schedule must outlive this object.
  LossHints(const RunConfig& config, const Schedule& schedule, bool weighted) : config_(config), schedule_(schedule), weighted_(weighted) {}

  // The new hints after optimizer steps.
  std::vector<std::string> take(const TrainingState& state);

 private:
  bool is_stuck(const TrainingState& state) const;

  const RunConfig& config_;
  const Schedule& schedule_;
  const bool weighted_;
  bool skipped_ = false, mostly_skipped_ = false, empty_ = false, stuck_ = false;  // hints given
};

}  // namespace mblm
