// The steps of a run: the arithmetic of StepRunner with the run's schedule, random keys and workers.
#pragma once

#include <cstdint>
#include <optional>
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

// The only part of a trainer that knows its StepRunner. How many steps were taken is in the TrainingState that the caller
// passes. What the constructor gets by reference must live as long as this.
class TrainingSteps {
 public:
  // `runner` is of `model`.
  TrainingSteps(const RunConfig& config, const Schedule& schedule, const Workers& workers, Model& model, StepRunner& runner, Recorder& recorder);

  // Adds the gradient of a batch and counts its elements. Gives the loss: a scalar on the model's device, not waited for. The
  // first micro-steps of a run are timed, for timemem.csv.
  Tensor micro_step(const Batch& batch, TrainingState& state);

  // Sums the gradients over the workers and updates the parameters. A loss or gradient that is not finite leaves them as they
  // are; the host learns of it at the next optimizer step or in finish_steps: then Error is thrown, or under train.on_nonfinite
  // `skip` the step is counted and logged as skipped.
  void optimizer_step(TrainingState& state);
  // Waits for the outcome of the last optimizer step: afterwards the state counts it.
  void finish_steps(TrainingState& state);
  // Puts the mean gradient of the last optimizer step into the state. Takes a pass over all gradients on the host.
  void measure_gradient(TrainingState& state);
  // Of the last optimizer step, before clipping; nothing before the first one. Waits for the device.
  std::optional<double> gradient_norm() const;

  // What a state file holds beside the numbers of `state`.
  std::vector<NamedTensor> tensors() { return runner_.state(); }
  // Throws FileError when the file is of another model; then nothing is changed.
  void restore(const SafetensorsFile& file) { runner_.restore(file); }
  // Gives rank 0's parameters and optimizer state to all workers, between two groups of micro-steps.
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
