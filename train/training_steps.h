// The steps of a run: combines StepRunner with the schedule, random keys and workers of the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mblm/config/config.h"
#include "mblm/model.h"
#include "train/data/dataset.h"
#include "train/recorder.h"
#include "train/run_state.h"
#include "train/schedule.h"
#include "train/step_runner.h"
#include "train/workers.h"

namespace mblm {

// The only part of the trainer that uses its StepRunner. The TrainingState that the caller passes counts the steps. The arguments of
// the constructor must outlive this object.
class TrainingSteps {
 public:
  // `runner` must belong to `model`.
  TrainingSteps(const RunConfig& config, const Schedule& schedule, const Workers& workers, Model& model, StepRunner& runner, Recorder& recorder);

  // Accumulates the gradient of a batch and counts its elements. Returns the loss, a scalar on the model's device, without waiting for
  // it. Times the first micro-steps of a run for timemem.csv.
  Tensor micro_step(const Batch& batch, TrainingState& state);

  // Sums the gradients over the workers and updates the parameters, unless the loss or gradient is not finite. The host detects this
  // at the next optimizer step or in finish_steps: then it throws Error or, if train.on_nonfinite is `skip`, counts and logs the step
  // as skipped.
  void optimizer_step(TrainingState& state);
  // Waits for the outcome of the last optimizer step and updates the state: gradient norm, smoothed loss, skipped steps.
  void finish_steps(TrainingState& state);
  // Writes the mean gradient of the last optimizer step to the state. Reads all gradients and waits for the device.
  void measure_gradient(TrainingState& state);

  // The tensors of a state file.
  std::vector<NamedTensor> tensors() { return runner_.state(); }
  // Restores these tensors. Throws FileError if they do not match the model; nothing is changed then.
  void restore(const SafetensorsFile& file) { runner_.restore(file); }
  // Copies the parameters and optimizer state of rank 0 to all workers. Valid only between groups of micro-steps.
  void share_from_rank0();

 private:
  Tensor timed_micro_step(const ModelInput& input, const ForwardContext& context);
  void take_outcomes(TrainingState& state, StepRunner::Newest newest);
  std::string nonfinite_text(const StepOutcome& outcome) const;

  const RunConfig& config_;
  const Schedule& schedule_;
  const Workers& workers_;
  Model& model_;
  StepRunner& runner_;
  Recorder& recorder_;
};

}  // namespace mblm
